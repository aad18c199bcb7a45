"""What `benchmarks/verify.py` measures: fuzzed formulas, labelled pairs, people's marks, planted answers."""
