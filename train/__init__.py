"""One launcher per training stage, on one engine."""
