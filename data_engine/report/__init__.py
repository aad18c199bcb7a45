"""The report's parts about data: each reads a run's files and gives a piece of the page, or says what is missing."""
