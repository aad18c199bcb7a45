"""The five-step LongCoT factory and its human-review queue (docs/cot_factory.md)."""
