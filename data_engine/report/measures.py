"""How the measures of each corpus are spread, with the recipe's thresholds."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from markupsafe import Markup

from data_engine import catalog
from data_engine.judge import build
from data_engine.report import figures
from data_engine.report.corpora import corpora
from data_engine.report.figures import Threshold, Values
from data_engine.report.html import number, render, svg

MANY = 8
"""Of an operator with more measures those that tell kept from dropped best are drawn, the others told in a table."""

SWITCHES = ("min_han_share",)
"""Fields that choose which bounds hold and drop nothing by themselves."""

ELSEWHERE = ("rights", "tombstone")
"""Operators that measure nothing of a sample: the part on rights tells of them."""

FEW = 3
"""Up to so many distinct values are listed, not drawn."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A column that an operator looks at: its values of kept and of dropped samples, and the recipe's bounds."""

    corpus: str
    operator: str
    column: str
    kept: list[Any]
    dropped: list[Any]
    thresholds: list[Threshold]
    settings: dict[str, Any]

    @property
    def is_number(self) -> bool:
        return not any(isinstance(value, str) for value in (self.kept + self.dropped)[:1])

    def counts(self) -> list[tuple[str, int, int]]:
        """(value, kept, dropped) per distinct value, the commonest first."""
        kept, dropped = Counter(self.kept), Counter(self.dropped)
        return [(str(value), kept[value], dropped[value]) for value, _ in (kept + dropped).most_common()]


def measured(data: Path, corpus: str) -> list[Measured]:
    """Every column that the corpus's operators look at, in the order of the recipe."""
    with catalog.open_catalog(data) as connection:
        columns = _columns(connection)
        return [
            _measured(connection, corpus, name, column, operator.model_dump())
            for name, operator in build(catalog.operators(data, corpus))
            for column in operator.looks_at
            if column in columns
        ]


def _columns(connection: duckdb.DuckDBPyConnection) -> set[str]:
    return set(connection.sql("SELECT * FROM measures LIMIT 0").columns)


def _measured(
    connection: duckdb.DuckDBPyConnection, corpus: str, operator: str, column: str, settings: dict[str, Any]
) -> Measured:
    rows = catalog.rows(
        connection,
        f"""SELECT m."{column}" AS value, v.status = 'kept' AS kept
            FROM measures AS m JOIN verdicts AS v
              ON v.id = m.id AND v.origin IS NOT DISTINCT FROM m.origin AND v.corpus = m.corpus
            WHERE m.corpus = ? AND m."{column}" IS NOT NULL""",
        corpus,
    )
    kept = [row["value"] for row in rows if row["kept"]]
    dropped = [row["value"] for row in rows if not row["kept"]]
    bounding = {name: value for name, value in settings.items() if name not in SWITCHES}
    finite = [bound for bound in thresholds(column, bounding) if math.isfinite(bound.value)]
    return Measured(corpus, operator, column, kept, dropped, finite, settings)


def thresholds(column: str, settings: Mapping[str, Any]) -> list[Threshold]:
    """The settings that bound `column`: `min_` or `max_` and its last words, as min_words of target_words."""
    return [
        Threshold(side, float(value))
        for side in ("min", "max")
        for name, value in sorted(settings.items())
        if value is not None and name.startswith(f"{side}_") and f"_{column}".endswith(name.removeprefix(side))
    ]


def draw(one: Measured) -> Markup | None:
    """The histogram of a measure, or None where a few words say as much."""
    if not one.is_number or len(set(one.kept + one.dropped)) <= FEW:
        return None
    label = one.column.replace("_", " ")
    figure = figures.histogram(_array(one.kept), _array(one.dropped), one.thresholds, label)
    return svg(figure, f"Histogram of {label} in {one.corpus}")


def _array(values: list[Any]) -> Values:
    return np.array(values, dtype=np.float64)


def histograms(data: Path) -> Markup:
    """Per corpus, the histograms of its measures; a measure with hardly any values is told in words."""
    return render("measures.html.jinja", corpora={name: _told(data, name) for name in corpora(data)})


def _told(data: Path, corpus: str) -> dict[str, list[dict[str, Any]]]:
    """`shown` as cards, and `more` as rows of a table: what an operator measures beyond MANY."""
    found: dict[str, list[Measured]] = {}
    for one in measured(data, corpus):
        if (one.kept or one.dropped) and one.operator not in ELSEWHERE:
            found.setdefault(one.operator, []).append(one)
    shown, more = [], []
    for mine in found.values():
        first = mine if len(mine) <= MANY else sorted(mine, key=apart, reverse=True)[:MANY]
        shown += [_card(one) for one in mine if one in first]
        more += [_row(one) for one in mine if one not in first]
    return {"shown": shown, "more": more}


def apart(one: Measured) -> float:
    """How far the means of kept and dropped samples are apart, in standard deviations; 0 where there is no telling."""
    if not one.is_number or not one.kept or not one.dropped:
        return 0.0
    kept, dropped = _array(one.kept), _array(one.dropped)
    spread = np.concatenate([kept, dropped]).std()
    return float(abs(kept.mean() - dropped.mean()) / spread) if spread else 0.0


def _card(one: Measured) -> dict[str, Any]:
    return {
        "operator": one.operator,
        "column": one.column.replace("_", " "),
        "plot": draw(one),
        "counts": [(_shown(value), kept, dropped) for value, kept, dropped in one.counts()[: 2 * FEW]],
        "bounds": bounds(one),
    }


def _row(one: Measured) -> dict[str, Any]:
    """The medians of kept and dropped samples, and the extremes of all."""
    values = one.kept + one.dropped
    median = [float(np.median(_array(side))) if side and one.is_number else None for side in (one.kept, one.dropped)]
    extremes = [min(values), max(values)] if one.is_number else [None, None]
    return {
        "operator": one.operator,
        "column": one.column.replace("_", " "),
        "figures": [*median, *map(_float, extremes)],
    }


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _shown(value: str) -> str:
    try:
        return number(float(value))
    except ValueError:
        return value


def bounds(one: Measured) -> str:
    """The recipe's rule in words: `at least 32, at most 60`."""
    words = {"min": "at least", "max": "at most"}
    said = [f"{words[bound.side]} {bound.value:g}" for bound in one.thresholds]
    allowed = one.settings.get("allowed") if not one.is_number else None
    return ", ".join(said) or (f"allowed: {', '.join(allowed)}" if allowed else "no bound of its own")
