"""Verifiers of answers, shared by the factory, training rewards and evaluation (docs/verify.md)."""
