"""What the benchmark of the process level stands on: CHAMP read, its features, and SmolLM2 as a judge."""
