"""What makes samples of samples: a module per maker, named in `data_engine.making.MAKERS`."""
