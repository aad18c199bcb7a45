"""The corpora of a run, with their rights, and what became of their samples: the table and the funnels."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from data_engine import catalog, demo_corpora
from data_engine.report.html import NotRunError, read_json, render, step_record

PASS_NAMES = {"exact": "twins, exact", "minhash": "twins, minhash", "perceptual": "twins, perceptual"}
NO_RUN = "not run yet: keyeforge data curate RECIPE --out DIR"


def steps(data: Path) -> dict[str, Path]:
    """The run's step folders by name. Raises NotRunError where nothing was curated."""
    try:
        return catalog.steps(data)
    except catalog.CatalogError as error:
        raise NotRunError(NO_RUN) from error


def corpora(data: Path) -> list[str]:
    """The corpora of the run whose verdicts are there, in the recipe's order; NotRunError if there are none."""
    found = [name.removeprefix("dedup.") for name in steps(data) if name.startswith("dedup.")]
    if not found:
        raise NotRunError(NO_RUN)
    return found


@dataclass(frozen=True, slots=True)
class Pass:
    """A step that looked at all rows of a corpus: its name and settings in the recipe, what it dropped of how many."""

    name: str
    corpus: str
    folder: Path
    settings: dict[str, Any]
    seen: int
    dropped: int

    @property
    def said(self) -> str:
        """The settings in words, those that are a list or more apart."""
        plain = {name: value for name, value in self.settings.items() if not isinstance(value, list | dict)}
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in plain.items())


def passes(data: Path) -> list[Pass]:
    """The passes of the run, corpus by corpus, in order: the steps that leave `drops`."""
    corpora(data)
    return [_pass(step, folder) for step, folder in steps(data).items() if (folder / "drops").is_dir()]


def _pass(step: str, folder: Path) -> Pass:
    record, (name, _, corpus) = step_record(folder), step.partition(".")
    counts = record["counts"]
    return Pass(name, corpus, folder, record["config"][0], counts["samples_in"], counts["samples_dropped"])


def table(data: Path) -> Markup:
    """Each corpus with its rights and its counts; then the packages that were fetched, if the run says."""
    summary = read_json(data / "summary.json", NO_RUN)
    counts = summary["corpora"]
    found = [{"name": name, "sources": _sources(data, name), **counts[name]} for name in corpora(data)]
    columns = ("ingested", "kept", "dropped", "rerouted", "quarantined")
    totals = {column: sum(row[column] for row in found) for column in columns}
    status = summary.get("fetched", {})
    fetched = [(item, status[item.name]) for item in demo_corpora.MANIFEST if item.name in status]
    skipped = sum(outcome == "skipped" for _, outcome in fetched)
    return render("corpora.html.jinja", corpora=found, totals=totals, fetched=fetched, skipped=skipped)


def _sources(data: Path, corpus: str) -> list[dict[str, Any]]:
    sources: list[dict[str, Any]] = step_record(steps(data)[f"ingest.{corpus}"])["config"]["sources"]
    return sources


def funnel(data: Path) -> Markup:
    """Per corpus, a bar for each operator: who is left, who is dropped there, and for which reasons."""
    names = corpora(data)
    why = catalog.reasons(data)
    rows = catalog.funnel(data)
    return render(
        "funnel.html.jinja",
        corpora=[
            _funnel(name, [row for row in rows if row["corpus"] == name], [row for row in why if row["corpus"] == name])
            for name in names
        ],
    )


def _funnel(corpus: str, rows: Sequence[dict[str, Any]], why: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first = max(rows[0]["seen"], 1)
    steps_ = [
        {
            "name": _named(row["operator"]),
            "left": row["seen"] - row["dropped"],
            "dropped": row["dropped"],
            "rerouted": row["rerouted"],
            "rewritten": row["rewritten"],
            "left_percent": 100 * (row["seen"] - row["dropped"]) / first,
            "dropped_percent": 100 * row["dropped"] / first,
            "reasons": merged(r for r in why if r["operator"] == row["operator"]),
        }
        for row in rows
    ]
    return {"name": corpus, "seen": rows[0]["seen"], "left": steps_[-1]["left"], "steps": steps_}


def _named(operator: str) -> str:
    """A step as the funnel calls it."""
    name = operator.removeprefix("dedup.")
    return (PASS_NAMES.get(name, name) if name != operator else name).replace("_", " ")


def merged(reasons: Any) -> list[tuple[str, int]]:
    """Reasons that differ only in the file or number they name, as one, the commonest first."""
    alike = [(re.sub(r"\S+\.\w{2,5}\b|\b\d[\d.,]*\b(?!-gram)", "…", row["reason"]), row["count"]) for row in reasons]
    groups = groupby(sorted(alike), key=lambda pair: pair[0])
    return sorted(((reason, sum(n for _, n in found)) for reason, found in groups), key=lambda pair: -pair[1])
