"""One reader per format. A reader is a module with two functions, `units` and `read`: see `common`."""
