"""Decontamination: what share of leaks planted on purpose it finds, and what it dropped because a benchmark asks it."""

import re
from pathlib import Path
from typing import Any

from markupsafe import Markup

from data_engine import catalog
from data_engine.report import contact
from data_engine.report.corpora import Pass, passes
from data_engine.report.html import number, percent, read_json, render

NUM_SHOWN = 6

# The origins take turns, so that one benchmark sample does not fill the sheet; what holds least of one goes first.
_LEAKS = """
SELECT id, reason FROM (
  SELECT id, reason, row_number() OVER (PARTITION BY reason ORDER BY id) AS turn
  FROM (SELECT DISTINCT id, reason FROM verdicts WHERE corpus = ? AND operator = 'dedup.decontaminate')
) ORDER BY turn, try_cast(regexp_extract(reason, '([0-9]+)%', 1) AS INT) NULLS LAST, id LIMIT ?
"""


def section(data: Path) -> Markup:
    """Per corpus that is held against benchmarks: recall by kind of edit, leaks dropped, some of them."""
    found = [_told(data, one) for one in passes(data) if one.name == "decontaminate"]
    return render("leaks.html.jinja", corpora=found)


def _told(data: Path, one: Pass) -> dict[str, Any]:
    columns, rows = recall(one.folder)
    benchmarks = [source["path"] for source in one.settings.get("benchmarks", [])]
    about = {"corpus": one.corpus, "seen": one.seen, "dropped": one.dropped, "benchmarks": benchmarks}
    return {**about, "columns": columns, "rows": rows, "leaks": leaks(data, one.corpus)}


def recall(folder: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """recall.json as a table: the names of its columns, and per kind of edit `kind`, `share` and `cells` in words.

    Whatever figures a row has are shown; what is no row of figures is left out.
    """
    found = read_json(folder / "recall.json", "") if (folder / "recall.json").is_file() else {}
    kinds = {kind: row for kind, row in found.items() if isinstance(row, dict)}
    columns = list(dict.fromkeys(["planted", *(name for row in kinds.values() for name in row if name != "recall")]))
    rows = [
        {"kind": kind, "share": row.get("recall"), "cells": [_shown(row.get(name)) for name in columns]}
        for kind, row in kinds.items()
    ]
    return [name.replace("_", " ") for name in columns], rows


def _shown(value: Any) -> str:
    if isinstance(value, float) and 0 < value < 1:
        return percent(value)
    return number(value) if isinstance(value, int | float) or value is None else str(value)


def leaks(data: Path, corpus: str, num: int = NUM_SHOWN) -> list[dict[str, Any]]:
    """A few dropped samples as cards, each with the benchmark's sample that it shows (`origin`) and `how`."""
    with catalog.open_catalog(data) as connection:
        rows = catalog.rows(connection, _LEAKS, corpus, num)
        found = contact.samples(connection, [row["id"] for row in rows])
    return [contact.card(data, found[row["id"]], _place(row["reason"])) for row in rows]


def _place(reason: str) -> dict[str, str]:
    """A reason as what was seen and where: `holds 92% of champ_heldout:problems.jsonl:4`."""
    split = re.fullmatch(r"(.*?) of (.*)", reason)
    return {"how": split[1], "origin": split[2]} if split else {"how": reason, "origin": ""}
