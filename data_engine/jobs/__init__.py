"""What `spark-submit` and `ray job submit` run."""
