"""The gate: one Great Expectations suite per corpus over the metrics table, one row per corpus.

Expectations look at metrics computed by our own pass (`metrics`), never at the raw samples, so the gate costs the
same for a thousand samples and for a billion.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from data_engine import judge, metrics, tables
from data_engine.describe import FIRST_MEDIUM, READINGS
from data_engine.media import write_atomic
from data_engine.recipe import Gate
from data_engine.step import Counts
from strict_yaml import RecipeError, nearest

_PSI = "psi"


@dataclass(frozen=True, slots=True)
class Observed:
    """Where one corpus's tables are (see `metrics.of_corpus`), its totals, and its last release.

    `earlier_measures` and `earlier` are the kept samples' measures and the metrics of that release.
    """

    folders: Mapping[str, Path]
    counts: Mapping[str, int]
    earlier_measures: Path | None = None
    earlier: metrics.Row | None = field(default=None)


def check(gates: Sequence[Gate], corpora: Sequence[str]) -> None:
    """Refuses a gate on a metric or corpus there is none of. Raises RecipeError."""
    for number, gate in enumerate(gates):
        _check_measure(f"gates.{number}.measure", gate.measure.removeprefix("drift_"))
        if gate.measure.startswith("drift_") and gate.measure.endswith(f".{_PSI}"):
            raise RecipeError(f"gates.{number}.measure: {gate.measure!r}: psi is a drift itself; leave out drift_")
        if gate.corpus is not None:
            nearest(f"gates.{number}.corpus", gate.corpus, corpora)


def _check_measure(where: str, name: str) -> None:
    if not name.startswith("measures."):
        nearest(where, name, metrics.PLAIN)
        return
    column, dot, statistic = name.removeprefix("measures.").rpartition(".")
    if not dot:
        raise RecipeError(f"{where}: {name!r}: write measures.COLUMN.STATISTIC, e.g. measures.{statistic}.mean")
    nearest(where, statistic, (*metrics.STATISTICS, _PSI))
    seen = {column for operator in judge.OPERATORS.values() for column in operator.looks_at}
    nearest(where, column, sorted({*seen, *FIRST_MEDIUM, *READINGS.names, "has_target"}))


def table(corpora: Mapping[str, Observed], gates: Sequence[Gate]) -> pd.DataFrame:
    """The metrics table: one row per corpus; drift where there is a release to compare with."""
    return pd.DataFrame([{"corpus": name, **_row(corpus, gates)} for name, corpus in corpora.items()])


def _row(corpus: Observed, gates: Sequence[Gate]) -> metrics.Row:
    row = metrics.of_corpus(corpus.folders, corpus.counts)
    wanted = {gate.measure for gate in gates if gate.measure.endswith(f".{_PSI}")}
    for name in sorted(wanted):
        column = name.removeprefix("measures.").removesuffix(f".{_PSI}")
        row[name] = metrics.psi(corpus.folders["measures"], corpus.earlier_measures, column)
    return row | (metrics.drift(row, corpus.earlier) if corpus.earlier else {})


def validate(rows: pd.DataFrame, gates: Sequence[Gate], folder: Path) -> Counts:
    """Runs the suites. Leaves metrics.json and .parquet, `gate.json`, and Great Expectations' pages in `data_docs`."""
    outcomes = _run_suites(rows, gates, folder / "data_docs") if gates else {}
    results = [_result(gate, number, rows, outcomes) for number, gate in enumerate(gates)]
    aside = _set_aside(results)
    stopped = [result for result in results if not result["success"] and result["action"] == "stop"]
    rows.to_json(folder / "metrics.json", orient="records", indent=1)
    tables.write(pa.Table.from_pandas(rows, preserve_index=False), folder / "metrics.parquet")
    none_left = bool(aside) and len(aside) == len(rows)
    report = {"passed": not stopped and not none_left, "expectations": results, "set_aside": aside}
    write_atomic(folder / "gate.json", json.dumps(report, indent=1).encode())
    return {
        "expectations": len(results),
        "failed": len(stopped),
        "warned": sum(not result["success"] and result["action"] == "warn" for result in results),
        "set_aside": len(aside),
    }


def _concerned(gate: Gate, corpus: str, row: Mapping[str, Any]) -> bool:
    """Whether a corpus is judged by a gate: it is meant, and the metric is known of it."""
    value = row.get(gate.measure)
    return gate.corpus in {None, corpus} and value is not None and not pd.isna(value)


Outcomes = Mapping[tuple[str, int], bool]


def _by_corpus(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {str(row["corpus"]): {str(name): value for name, value in row.items()} for row in rows.to_dict("records")}


def _run_suites(rows: pd.DataFrame, gates: Sequence[Gate], docs: Path) -> Outcomes:
    """Whether each (corpus, number of its gate) holds: one suite per corpus, its pages in `docs`."""
    context = _context(docs)
    source = context.data_sources.add_pandas("metrics")
    held: dict[tuple[str, int], bool] = {}
    for corpus, row in _by_corpus(rows).items():
        numbers = [number for number, gate in enumerate(gates) if _concerned(gate, corpus, row)]
        if numbers:
            batch = source.add_dataframe_asset(corpus).add_batch_definition_whole_dataframe("row")
            outcome = _run_suite(context, corpus, batch, [gates[number] for number in numbers], row)
            held |= {(corpus, number): bool(found.success) for number, found in zip(numbers, outcome, strict=True)}
    context.build_data_docs(site_names=["gate"])
    return held


def _context(docs: Path) -> Any:
    """A context that leaves nothing anywhere but the pages."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.absolute())}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    site = {"class_name": "SiteBuilder", "site_index_builder": index, "store_backend": store}
    context.add_data_docs_site(site_name="gate", site_config=site)
    return context


def _run_suite(context: Any, corpus: str, batch: Any, gates: Sequence[Gate], row: Mapping[str, Any]) -> list[Any]:
    """Great Expectations' result of each gate on one corpus, in order."""
    import great_expectations as gx

    expectations = [_expectation(gate, number) for number, gate in enumerate(gates)]
    suite = context.suites.add(gx.ExpectationSuite(name=corpus, expectations=expectations))
    definition = gx.ValidationDefinition(name=corpus, data=batch, suite=suite)
    frame = pd.DataFrame([{"corpus": corpus, **{gate.measure: row[gate.measure] for gate in gates}}])
    found = context.validation_definitions.add(definition).run(batch_parameters={"dataframe": frame})
    by_number = {result.expectation_config.meta["number"]: result for result in found.results}
    return [by_number[number] for number in range(len(gates))]


def _expectation(gate: Gate, number: int) -> Any:
    from great_expectations.expectations import ExpectColumnValuesToBeBetween

    about = {"number": number, "action": gate.action}  # the number tells apart gates that are otherwise equal
    severity = "warning" if gate.action == "warn" else "critical"
    return ExpectColumnValuesToBeBetween(
        column=gate.measure, min_value=gate.min, max_value=gate.max, severity=severity, meta=about
    )


def _result(gate: Gate, number: int, rows: pd.DataFrame, outcomes: Outcomes) -> dict[str, Any]:
    """A gate's outcome over all corpora. A metric that no corpus has fails, but drift may have nothing before it."""
    found = _by_corpus(rows)
    observed = {name: float(row[gate.measure]) for name, row in found.items() if (name, number) in outcomes}
    outside = [name for name in observed if not outcomes[name, number]]
    optional = gate.measure.startswith("drift_") or gate.measure.endswith(f".{_PSI}")
    return {
        **gate.model_dump(),
        "success": not outside and (bool(observed) or optional),
        "observed": {name: round(value, 6) for name, value in observed.items()},
        "outside": outside,
    }


def _set_aside(results: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Corpora that a gate quarantines, with the lines that say why."""
    aside: dict[str, list[str]] = {}
    for result in results:
        if result["action"] == "quarantine":
            for corpus in result["outside"]:
                aside.setdefault(corpus, []).append(describe(result, corpus))
    return aside


def summary(folder: Path) -> dict[str, Any]:
    """What gate.json says."""
    report: dict[str, Any] = json.loads((folder / "gate.json").read_text())
    return report


def set_aside(folder: Path) -> dict[str, list[str]]:
    """The corpora that are not to be mixed, with the reasons."""
    found: dict[str, list[str]] = summary(folder)["set_aside"]
    return found


def failed(folder: Path) -> list[str]:
    """One line per expectation that stops the run, and one where no corpus is left to mix."""
    report = summary(folder)
    stops = [describe(row) for row in report["expectations"] if not row["success"] and row["action"] == "stop"]
    return stops if stops or report["passed"] else ["gate: every corpus is set aside; nothing is left to mix"]


def notes(folder: Path) -> list[str]:
    """One line per warning, and one per corpus and reason that sets it aside."""
    report = summary(folder)
    warned = [describe(row) for row in report["expectations"] if not row["success"] and row["action"] == "warn"]
    aside = [f"{corpus} is set aside: {line}" for corpus, lines in report["set_aside"].items() for line in lines]
    return warned + aside


def describe(result: Mapping[str, Any], corpus: str | None = None) -> str:
    """An expectation's outcome as one line, naming the corpora outside its bounds (or only `corpus`)."""
    low, high = result["min"], result["max"]
    names = [corpus] if corpus is not None else result["outside"]
    outside = [f"{name} = {result['observed'][name]:g}" for name in names]
    bounds = " and ".join(
        f"{word} {bound:g}" for word, bound in (("at least", low), ("at most", high)) if bound is not None
    )
    told = ", ".join(outside) or ("holds" if result["observed"] else "no corpus has it")
    return f"gate: {result['measure']} should be {bounds}: {told}"
