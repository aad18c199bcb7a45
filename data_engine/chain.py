"""The steps of one corpus, each on the one before: ingest, probe, OCR, measure, decide, dedup."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_engine import ingest, judge, label, probe, tables
from data_engine.curation import Curation, row_counts
from data_engine.dedup import exact, perceptual
from data_engine.dedup.engine import engine_for
from data_engine.judge import LINEAGE_SCHEMA, VERDICT_SCHEMA
from data_engine.operators.base import Operator
from data_engine.recipe import Corpus
from data_engine.step import Counts, StepResult, modules

DEDUP: Mapping[str, Any] = {
    "exact": (exact.Exact, exact.find),
    "perceptual": (perceptual.Perceptual, perceptual.find),
}


@dataclass(frozen=True, slots=True)
class Chain:
    """The steps of one corpus: its media, its verdicts, and its kept samples."""

    ingest: StepResult
    probe: StepResult
    decide: StepResult
    dedup: StepResult


def run_corpus(this: Curation, corpus: Corpus) -> Chain:
    read = _ingest(this, corpus)
    probed = _probe(this, corpus, read)
    operators = judge.build(corpus.operators)
    labelled = _label(this, corpus, read, probed) if any("ocr" in name for name, _ in operators) else None
    measured = _measure(this, corpus, operators, labelled or read, probed, labelled)
    decided = _decide(this, corpus, operators, measured)
    return Chain(read, probed, decided, _dedup(this, corpus, labelled or read, measured, decided))


def _ingest(this: Curation, corpus: Corpus) -> StepResult:
    root = Path(this.recipe.root)

    def build(folder: Path) -> Counts:
        units = ingest.list_units(corpus, root)
        work = functools.partial(ingest.ingest_partition, corpus=corpus, root=root, store=this.store)
        size = max(1, min(256, -(-len(units) // 8)))
        this.partitions(f"ingest {corpus.corpus}", work, units, size, folder, "spark")
        return {"units": len(units), **row_counts(folder, "samples", "quarantine")}

    return this.run.step(
        f"ingest.{corpus.corpus}",
        config={"sources": [source.model_dump() for source in corpus.sources]},
        inputs=[ingest.fingerprint(corpus, root)],
        code=modules(
            "data_engine.ingest",
            "data_engine.sample",
            *sorted({f"data_engine.sources.{source.format}" for source in corpus.sources}),
        ),
        build=build,
    )


def _probe(this: Curation, corpus: Corpus, read: StepResult) -> StepResult:
    def build(folder: Path) -> Counts:
        found = tables.read(read.table("samples"), ["media"])["media"].combine_chunks().flatten()
        rows = {item["key"]: "video" for item in found.to_pylist()}
        rows |= {i["key"]: "image" for i in found.to_pylist() if i["kind"] == "image" and i["start"] is None}
        listing = pa.table({"key": sorted(rows), "kind": [rows[key] for key in sorted(rows)]})
        listing = listing.cast(pa.schema([("key", pa.string()), ("kind", pa.string())]))
        work = functools.partial(
            probe.probe_partition, store=this.store, frames=folder / "frames", config=this.recipe.frames
        )
        size = 1 if "video" in rows.values() else 512
        this.partitions(f"probe {corpus.corpus}", work, listing, size, folder, "ray")
        return row_counts(folder, "media", "bad")

    return this.run.step(
        f"probe.{corpus.corpus}",
        config=this.recipe.frames.model_dump(),
        inputs=[read],
        code=modules("data_engine.probe", "data_engine.image_measures", "data_engine.video", "data_engine.media"),
        build=build,
    )


def _label(this: Curation, corpus: Corpus, read: StepResult, probed: StepResult) -> StepResult:
    def build(folder: Path) -> Counts:
        found = tables.read(read.table("samples"))
        readable = {row["key"] for row in tables.rows(probed.table("media"), ["key"])}
        usable = pa.array([all(m["key"] in readable for m in media) for media in found["media"].to_pylist()])
        work = functools.partial(label.label_partition, store=this.store)
        this.partitions(f"OCR {corpus.corpus}", work, found.filter(usable), 24, folder, "ray")
        tables.write(found.filter(pc.invert(usable)), folder / "samples" / "unreadable.parquet")
        return row_counts(folder, "samples", "ocr")

    return this.run.step(
        f"ocr.{corpus.corpus}",
        config={"engine": "rapidocr"},
        inputs=[read, probed],
        code=modules("data_engine.label", "data_engine.models.ocr"),
        build=build,
    )


def _measure(
    this: Curation,
    corpus: Corpus,
    operators: Sequence[tuple[str, Operator]],
    found: StepResult,
    probed: StepResult,
    labelled: StepResult | None,
) -> StepResult:
    def build(folder: Path) -> Counts:
        media = {row["key"]: row for name in ("media", "bad") for row in tables.rows(probed.table(name))}
        readings = {row["id"]: row for row in tables.rows(labelled.table("ocr"))} if labelled else {}
        work = functools.partial(judge.measure_partition, operators=operators, media=media, readings=readings)
        samples = tables.read(found.table("samples"))
        this.partitions(f"measure {corpus.corpus}", work, samples, 8192, folder, "spark")
        return row_counts(folder, "measures")

    return this.run.step(
        f"measure.{corpus.corpus}",
        config=judge.measured_config(operators),
        inputs=[found, probed],
        code=modules("data_engine.judge", *sorted({type(operator).__module__ for _, operator in operators})),
        build=build,
    )


def _decide(
    this: Curation, corpus: Corpus, operators: Sequence[tuple[str, Operator]], measured: StepResult
) -> StepResult:
    def build(folder: Path) -> Counts:
        verdicts, lineage = judge.decide(tables.read(measured.table("measures")), operators)
        tables.write(verdicts, folder / "verdicts" / "part-00000.parquet")
        tables.write(lineage, folder / "lineage" / "part-00000.parquet")
        return _statuses(verdicts)

    return this.run.step(
        f"decide.{corpus.corpus}",
        config=corpus.operators,
        inputs=[measured],
        code=modules("data_engine.judge", *sorted({type(operator).__module__ for _, operator in operators})),
        build=build,
    )


def _dedup(this: Curation, corpus: Corpus, found: StepResult, measured: StepResult, decided: StepResult) -> StepResult:
    """Marks duplicates among what the operators kept; leaves the final verdicts and the kept samples."""

    def build(folder: Path) -> Counts:
        verdicts = tables.read(decided.table("verdicts"))
        measures = tables.read(measured.table("measures"))
        lineage = []
        for order, (name, fields) in enumerate((n, f) for spec in corpus.dedup for n, f in spec.items()):
            model, find = DEDUP[name]
            rows = pc.indices_nonzero(pc.equal(verdicts["status"], "kept"))
            twins = find(measures.take(rows), model(**fields), engine_for(this.runner))
            reason = pa.array(
                [f"duplicate of {twins[i]}" if i in twins else None for i in range(len(rows))], pa.string()
            )
            lineage.append(judge.lineage_rows(verdicts.take(rows), 100 + order, f"dedup.{name}", fields, reason))
            verdicts = _drop(verdicts, rows, reason, f"dedup.{name}")
        kept = tables.read(found.table("samples")).filter(pc.equal(verdicts["status"], "kept"))
        tables.write(verdicts.cast(VERDICT_SCHEMA), folder / "verdicts" / "part-00000.parquet")
        tables.write(
            pa.concat_tables(lineage or [LINEAGE_SCHEMA.empty_table()]),
            folder / "lineage" / "part-00000.parquet",
        )
        tables.write(kept, folder / "samples" / "part-00000.parquet")
        return _statuses(verdicts)

    return this.run.step(
        f"dedup.{corpus.corpus}",
        config=corpus.dedup,
        inputs=[found, measured, decided],
        code=modules("data_engine.dedup.exact", "data_engine.dedup.perceptual", "data_engine.dedup.components"),
        build=build,
    )


def _drop(verdicts: pa.Table, rows: pa.Array, reason: pa.Array, operator: str) -> pa.Table:
    """The verdicts with those of `rows` that have a reason turned from kept to dropped."""
    columns = verdicts.to_pydict()
    for row, why in zip(rows.to_pylist(), reason.to_pylist(), strict=True):
        if why is not None:
            columns["status"][row], columns["operator"][row], columns["reason"][row] = (
                "dropped",
                operator,
                why,
            )
    return pa.table(columns, schema=VERDICT_SCHEMA)


def _statuses(verdicts: pa.Table) -> Counts:
    found = {row["values"]: row["counts"] for row in verdicts["status"].value_counts().to_pylist()}
    counts = {f"samples_{status}": found.get(status, 0) for status in ("kept", "dropped", "quarantined")}
    return {"samples_in": len(verdicts), **counts}
