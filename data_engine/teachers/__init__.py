"""Chat and vision models that make labels: one interface to servers and to checkpoint folders (docs/teachers.md)."""
