"""The human-review queue: tasks with leases, a web app, agreement, audits and interchange (docs/review.md)."""
