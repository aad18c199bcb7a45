"""Samples out of shards, in an order that is a function of (seed, epoch, mixture) and a place in it."""
