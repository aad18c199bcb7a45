"""The five-step LongCoT factory and its human-review queue (built by a later issue on data_engine)."""
