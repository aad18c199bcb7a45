"""Benchmarks, reports and the demo that joins all packages."""
