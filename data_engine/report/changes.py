"""What changed against the earlier releases that the recipe names: by corpus, change and reason."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from data_engine import releases
from data_engine.report.corpora import corpora
from data_engine.report.html import render


def section(data: Path) -> Markup:
    """A table per release in `against` that still is a run; elsewhere how to compare any two runs."""
    names = set(corpora(data))
    return render("changes.html.jinja", releases=[_told(run, data, names) for run in releases.compared_with(data)])


def _told(earlier: Path, data: Path, names: set[str]) -> dict[str, Any]:
    rows = [row for row in releases.diff(earlier, data) if row["corpus"] in names]
    totals = {
        kind: sum(row["count"] for row in rows if row["change"] == kind) for kind in ("added", "removed", "changed")
    }
    return {"name": earlier.name, "rows": rows, "totals": totals}
