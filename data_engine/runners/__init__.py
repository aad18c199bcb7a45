"""One operator, three runners: each only decides where `partition.run_partition` is called."""
