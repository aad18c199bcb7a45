"""What was made of samples: by which maker and teacher, with examples; of what nothing was made; what was asked."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
from markupsafe import Markup

from data_engine import catalog
from data_engine.report.contact import card, samples
from data_engine.report.corpora import steps
from data_engine.report.html import NotRunError, render
from data_engine.teachers.counts import summary

NUM_SHOWN = 2
"""Examples of each task of a maker."""

_MADE = """SELECT m.corpus, m.maker, coalesce(m.teacher, '') AS teacher, s.task, count(*) AS samples,
    count(*) FILTER (v.status = 'kept') AS kept, list_sort(list(DISTINCT m.id))[:?] AS ids
FROM made AS m JOIN samples AS s ON s.id = m.id AND s.step = m.step LEFT JOIN verdicts AS v ON v.id = m.id
    AND v.corpus = m.corpus
WHERE m.maker <> 'keep' GROUP BY ALL ORDER BY ALL"""
_UNMADE = """SELECT corpus, maker, reason, count(*) AS samples, count(*) FILTER (lost) AS lost FROM unmade
GROUP BY ALL ORDER BY corpus, maker, samples DESC"""
_FAULTS = """SELECT corpus, field AS maker, reason, count(*) AS samples, count(*) AS lost FROM quarantine
WHERE starts_with(step, 'make')
GROUP BY ALL ORDER BY corpus, samples DESC LIMIT 20"""


def section(data: Path) -> Markup:
    """Raises NotRunError where the recipe makes nothing."""
    steps(data)
    with catalog.open_catalog(data) as connection:
        if not catalog.has(connection, "made"):
            raise NotRunError("the recipe makes no samples of others (`make`)")
        rows = catalog.rows(connection, _MADE, NUM_SHOWN)
        left = catalog.rows(connection, _UNMADE) if catalog.has(connection, "unmade") else []
        faults = catalog.rows(connection, _FAULTS) if catalog.has(connection, "quarantine") else []
        found = samples(connection, [name for row in rows for name in row["ids"]])
        asked = _asked(connection)
    shown = [(row, card(data, found[name], {"status": "kept", "reason": ""})) for row in rows for name in row["ids"]]
    return render("made.html.jinja", rows=rows, left=left, faults=faults, shown=shown, asked=asked)


def _asked(connection: duckdb.DuckDBPyConnection) -> Sequence[dict[str, Any]]:
    """What became of the requests, a row for each teacher."""
    if not catalog.has(connection, "asked"):
        return []
    rows = catalog.rows(connection, "SELECT teacher, counts FROM asked")
    total = summary({row["teacher"]: json.loads(row["counts"])} for row in rows)
    return [{"teacher": name, **counts} for name, counts in total.items()]
