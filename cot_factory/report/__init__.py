"""The factory's part of the report: HTML with plots, every number read from the run's files."""
