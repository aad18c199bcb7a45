"""Raw corpora to curated, gated, mixed, sharded and streamed samples. Importing it starts neither Spark nor torch."""
