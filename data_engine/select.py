"""The end of a corpus's chain: the final verdict of every sample, and the samples, measures and reroutes kept."""

import functools
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine import tables
from data_engine.curation import Curation
from data_engine.judge import VERDICT_SCHEMA
from data_engine.queues import Scores, reroutes, routing
from data_engine.recipe import Corpus
from data_engine.step import Counts, StepResult


def select(
    this: Curation,
    corpus: Corpus,
    found: StepResult,
    measured: StepResult,
    decided: StepResult,
    done: Sequence[StepResult],
) -> StepResult:
    """Leaves `verdicts` (all samples), `samples` and `measures` (the kept ones, row for row), and `reroutes`."""

    def build(folder: Path) -> Counts:
        work = functools.partial(
            select_partition,
            samples=found.table("samples"),
            measures=measured.table("measures"),
            verdicts=decided.table("verdicts"),
            drops=[(step.name.partition(".")[0], step.table("drops")) for step in done],
            scores=routing(corpus),
        )
        parts = tables.parts(measured.table("measures"))
        this.over_parts(f"select {corpus.corpus}", work, parts, folder, "spark")
        return statuses(tables.parts(folder / "verdicts"))

    return this.run.step(
        f"dedup.{corpus.corpus}",
        config=corpus.dedup,
        inputs=[found, measured, decided, *done],
        code=["data_engine.select"],
        build=build,
    )


def select_partition(
    units: pa.Table,
    *,
    samples: Path,
    measures: Path,
    verdicts: Path,
    drops: Sequence[tuple[str, Path]],
    scores: Scores,
) -> dict[str, pa.Table]:
    """One part's verdicts with the passes' drops put in, its kept rows, and its reroutes (`queues.SCHEMA`)."""
    part = units["part"][0].as_py()
    index = [file.name for file in tables.parts(verdicts)].index(part)
    final = pq.read_table(verdicts / part)
    for name, folder in drops:
        final = _drop(final, pq.read_table(tables.parts(folder)[index]), f"dedup.{name}")
    kept, all_samples = pc.equal(final["status"], "kept"), pq.read_table(tables.parts(samples)[index])
    measured = pq.read_table(measures / part)
    return {
        "verdicts": final,
        "samples": all_samples.filter(kept),
        "measures": measured.filter(kept),
        **({"reroutes": reroutes(all_samples, final, measured, scores)} if scores else {}),
    }


def _drop(verdicts: pa.Table, found: pa.Table, operator: str) -> pa.Table:
    """The verdicts with the rows of `found` turned from kept to dropped."""
    place = pc.index_in(pa.array(range(len(verdicts)), pa.int64()), value_set=found["row"].combine_chunks())
    dropped = pc.is_valid(place)
    columns = {
        **{name: verdicts[name] for name in ("id", "source", "origin")},
        "status": pc.if_else(dropped, "dropped", verdicts["status"]),
        "operator": pc.if_else(dropped, operator, verdicts["operator"]),
        "reason": pc.if_else(dropped, found["reason"].combine_chunks().take(place), verdicts["reason"]),
        "route": verdicts["route"],
    }
    return pa.table(columns, schema=VERDICT_SCHEMA)


def statuses(verdicts: Sequence[Path]) -> Counts:
    """How many samples are kept, dropped, rerouted and quarantined."""
    counts = {f"samples_{name}": 0 for name in ("in", "kept", "dropped", "rerouted", "quarantined")}
    for file in verdicts:
        status = pq.read_table(file, columns=["status"])["status"]
        counts["samples_in"] += len(status)
        for row in status.value_counts().to_pylist():
            counts[f"samples_{row['values']}"] += row["counts"]
    return counts
