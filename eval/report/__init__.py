"""The report of a run: `write(DIR)` leaves one self-contained page, DIR/report/index.html."""

from eval.report.page import write

__all__ = ["write"]
