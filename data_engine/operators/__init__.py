"""Curation operators: each a pair of pure functions, `measure` (stored) and `decide` (re-run at will)."""
