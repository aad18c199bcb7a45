"""Clients of models the data engine calls: one module per kind of model."""
