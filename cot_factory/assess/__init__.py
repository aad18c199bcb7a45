"""Assessing chains of thought on two levels: the answer, and each step of the process."""
