"""The gate: what was expected of each corpus, what was observed, and whether it held."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from data_engine.report.corpora import steps
from data_engine.report.html import NotRunError, number, read_json, render

MISSING = "not run yet: the run has not come to its gate"


def outcome(data: Path) -> dict[str, Any]:
    """gate.json of the run. Raises NotRunError."""
    folder = steps(data).get("gate")
    if folder is None:
        raise NotRunError(MISSING)
    found: dict[str, Any] = read_json(folder / "gate.json", MISSING)
    return found


def section(data: Path) -> Markup:
    """One row per expectation, one column per corpus."""
    found = outcome(data)
    names = list(dict.fromkeys(name for row in found["expectations"] for name in row["observed"]))
    rows = [
        {**row, "bound": _bound(row), "cells": [_cell(row, name) for name in names]} for row in found["expectations"]
    ]
    return render(
        "gate.html.jinja",
        passed=found["passed"],
        corpora=names,
        rows=rows,
        aside=found.get("set_aside", {}),
        docs=data_docs(data),
        drift=any(row["measure"].startswith("drift_") for row in rows),
    )


def data_docs(data: Path) -> str | None:
    """Great Expectations' own pages on the gate, as a link from DIR/report/."""
    pages = steps(data)["gate"] / "data_docs" / "index.html"
    return f"../{pages.relative_to(data).as_posix()}" if pages.is_file() else None


def _bound(row: Mapping[str, Any]) -> str:
    parts = [("at least", row["min"]), ("at most", row["max"])]
    return " and ".join(f"{word} {value:g}" for word, value in parts if value is not None)


def _cell(row: Mapping[str, Any], corpus: str) -> dict[str, Any] | None:
    value = row["observed"].get(corpus)
    if value is None:
        return None
    low = row["min"] is None or value >= row["min"]
    said = f"{100 * value:+.1f} %" if row["measure"].startswith("drift_") else number(value)
    return {"said": said, "holds": low and (row["max"] is None or value <= row["max"])}
