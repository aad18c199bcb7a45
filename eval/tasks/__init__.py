"""Benchmarks: each a module that reads its official files and says what the answers are worth."""
