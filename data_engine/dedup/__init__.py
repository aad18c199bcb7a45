"""Deduplication passes over stored measures: who is a duplicate of whom."""
