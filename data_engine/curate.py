"""A curation run from recipe to shards, one content-addressed step after the other.

Spark does ingest, dedup and the mixing plan; Ray does media: probing, OCR, counting frames, shards.
`--runner` sends every partition to one runner instead; the outputs are the same bytes.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_engine import gates, ingest, judge, label, mix, probe, shards, tables, tokens
from data_engine.dedup import exact, perceptual
from data_engine.dedup.engine import engine_for
from data_engine.judge import LINEAGE_SCHEMA, VERDICT_SCHEMA
from data_engine.media import write_atomic
from data_engine.operators.base import Operator
from data_engine.recipe import Corpus, Recipe, RecipeError, nearest
from data_engine.runners import partition
from data_engine.runners.partition import RunnerName, Work
from data_engine.step import Counts, Run, StepResult, modules
from model.visual_tokens import visual_budget

DEDUP: Mapping[str, Any] = {"exact": (exact.Exact, exact.find), "perceptual": (perceptual.Perceptual, perceptual.find)}
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Curation:
    """One run: the recipe, where it writes, which runner it was told to use, and whom to tell."""

    recipe: Recipe
    run: Run
    runner: RunnerName | None = None
    progress: Progress = lambda name, done, total: None

    @property
    def store(self) -> Path:
        return self.run.out / "media"

    def partitions(self, name: str, work: Work, table: pa.Table, size: int, folder: Path, usual: RunnerName) -> None:
        """Cuts `table` into partitions and runs `work` over them on the usual runner, unless told otherwise."""
        parts = tables.write_partitions(table, folder / "_in", size)
        report = functools.partial(self.progress, name)
        partition.run(self.runner or usual, work, parts, folder, report)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to: its summary, and the expectations that stopped it (none: it passed)."""

    summary: dict[str, Any]
    failed: list[str]


def check(recipe: Recipe) -> None:
    """Refuses unknown formats, operators, dedup passes and fields. Raises RecipeError naming the nearest."""
    known = {"operators": judge.OPERATORS, "dedup": {name: model for name, (model, _) in DEDUP.items()}}
    for corpus in recipe.corpora:
        where = f"corpora.{corpus.corpus}"
        for source in corpus.sources:
            nearest(f"{where}.sources.format", source.format, ingest.FORMATS)
        for field, models in known.items():
            for spec in getattr(corpus, field):
                for name, values in spec.items():
                    nearest(f"{where}.{field}", name, list(models))
                    for key in values:
                        nearest(f"{where}.{field}.{name}", key, list(models[name].model_fields))
                    _valid(f"{where}.{field}.{name}", models[name], values)
    gates.check(recipe.gates, [corpus.corpus for corpus in recipe.corpora])


def _valid(where: str, model: type[Any], values: Mapping[str, Any]) -> None:
    try:
        model(**values)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}".replace("\n", " ")) from error


def curate(
    recipe: Recipe,
    out: Path,
    *,
    runner: RunnerName | None = None,
    progress: Progress = lambda name, done, total: None,
    announce: Callable[[StepResult], None] = lambda result: None,
) -> Outcome:
    """Runs the whole recipe. Raises RecipeError for a recipe that cannot run; a failed gate is in the outcome."""
    check(recipe)
    this = Curation(recipe, Run(out, announce), runner, progress)
    kept = {corpus.corpus: _corpus(this, corpus) for corpus in recipe.corpora}
    tokenizer = _tokenizer(this, list(kept.values()))
    counted = {name: _count(this, name, found, tokenizer) for name, found in kept.items()}
    gate = _gate(this, kept, counted)
    failed = gates.failed(gate.folder)
    if not failed:
        pool = _mix(this, kept, counted)
        _shards(this, pool, tokenizer)
    summary = summarise(this, failed)
    write_atomic(out / "summary.json", _json(summary))
    return Outcome(summary, failed)


@dataclass(frozen=True, slots=True)
class Chain:
    """The steps of one corpus: its media, its verdicts, and its kept samples."""

    ingest: StepResult
    probe: StepResult
    decide: StepResult
    dedup: StepResult


def _corpus(this: Curation, corpus: Corpus) -> Chain:
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
        return {"units": len(units), **_rows(folder, "samples", "quarantine")}

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
        return _rows(folder, "media", "bad")

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
        return _rows(folder, "samples", "ocr")

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
        return _rows(folder, "measures")

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


def _dedup(
    this: Curation, corpus: Corpus, found: StepResult, measured: StepResult, decided: StepResult
) -> StepResult:
    """Marks duplicates among what the operators kept; leaves the final verdicts and the kept samples."""

    def build(folder: Path) -> Counts:
        verdicts = tables.read(decided.table("verdicts"))
        measures = tables.read(measured.table("measures"))
        lineage = []
        for order, (name, fields) in enumerate((n, f) for spec in corpus.dedup for n, f in spec.items()):
            model, find = DEDUP[name]
            rows = pc.indices_nonzero(pc.equal(verdicts["status"], "kept"))
            twins = find(measures.take(rows), model(**fields), engine_for(this.runner))
            reason = pa.array([f"duplicate of {twins[i]}" if i in twins else None for i in range(len(rows))], pa.string())
            lineage.append(
                judge.lineage_rows(verdicts.take(rows), 100 + order, f"dedup.{name}", fields, reason)
            )
            verdicts = _drop(verdicts, rows, reason, f"dedup.{name}")
        kept = tables.read(found.table("samples")).filter(pc.equal(verdicts["status"], "kept"))
        tables.write(verdicts.cast(VERDICT_SCHEMA), folder / "verdicts" / "part-00000.parquet")
        tables.write(pa.concat_tables(lineage or [LINEAGE_SCHEMA.empty_table()]), folder / "lineage" / "part-00000.parquet")
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
            columns["status"][row], columns["operator"][row], columns["reason"][row] = "dropped", operator, why
    return pa.table(columns, schema=VERDICT_SCHEMA)


def _tokenizer(this: Curation, chains: Sequence[Chain]) -> Path:
    """The recipe's tokenizer folder, or one trained on the kept text where the recipe names none."""
    if this.recipe.tokenizer is not None:
        return Path(this.recipe.root, this.recipe.tokenizer)

    def build(folder: Path) -> Counts:
        from model.tokenizer import train_bpe

        found = [table for chain in chains for table in [tables.read(chain.dedup.table("samples"))]]
        texts = sorted({text for table in found for text in _texts(table)})
        train_bpe(texts, 8192, folder / "tokenizer")
        return {"texts": len(texts), "characters": sum(map(len, texts))}

    result = this.run.step(
        "tokenizer",
        config={"vocab_size": 8192},
        inputs=[chain.dedup for chain in chains],
        code=modules("model.tokenizer"),
        build=build,
    )
    return result.table("tokenizer")


def _texts(table: pa.Table) -> set[str]:
    return {part["text"] for row in table["messages"].to_pylist() for m in row for part in m["parts"] if part["text"]}


def _count(this: Curation, name: str, chain: Chain, tokenizer: Path) -> StepResult:
    counter = tokens.Counter(
        preset=this.recipe.preset,
        tokenizer=tokenizer,
        frames=chain.probe.table("frames"),
        fps=this.recipe.frames.fps,
        max_side=this.recipe.shards.max_side,
    )

    def build(folder: Path) -> Counts:
        media = tables.rows(chain.probe.table("media"), ["key", "height", "width"])
        sizes = {row["key"]: (row["height"], row["width"]) for row in media}
        work = functools.partial(tokens.count_partition, counter=counter, sizes=sizes)
        found = tables.read(chain.dedup.table("samples"))
        this.partitions(f"tokens {name}", work, found, 4096 if not _moving(found) else 64, folder, "ray")
        return _rows(folder, "tokens")

    return this.run.step(
        f"tokens.{name}",
        config={"preset": counter.preset, "fps": counter.fps, "max_side": counter.max_side, "tokenizer": str(tokenizer.parent.name)},
        inputs=[chain.dedup, chain.probe],
        code=modules("data_engine.tokens", "data_engine.clips", "model.visual_tokens", "model.slow_fast"),
        build=build,
    )


def _moving(found: pa.Table) -> bool:
    return "video" in found["modality"].unique().to_pylist()


def _gate(this: Curation, kept: Mapping[str, Chain], counted: Mapping[str, StepResult]) -> StepResult:
    def build(folder: Path) -> Counts:
        folders = {
            name: {
                "verdicts": chain.dedup.table("verdicts"),
                "samples": chain.dedup.table("samples"),
                "tokens": counted[name].table("tokens"),
            }
            for name, chain in kept.items()
        }
        return gates.validate(gates.metrics(folders, corpora_counts(this)), this.recipe.gates, folder)

    return this.run.step(
        "gate",
        config=[gate.model_dump() for gate in this.recipe.gates],
        inputs=[step for name, chain in kept.items() for step in (chain.ingest, chain.dedup, counted[name])],
        code=modules("data_engine.gates"),
        build=build,
    )


def _mix(this: Curation, kept: Mapping[str, Chain], counted: Mapping[str, StepResult]) -> StepResult:
    def build(folder: Path) -> Counts:
        folders = [(chain.dedup.table("samples"), counted[name].table("tokens")) for name, chain in kept.items()]
        holdouts = {corpus.corpus: corpus.holdout for corpus in this.recipe.corpora}
        return mix.build(folders, holdouts, this.recipe, engine_for(this.runner), folder)

    return this.run.step(
        "mix",
        config={
            "mixture": this.recipe.mixture.model_dump(),
            "holdout": [corpus.holdout.model_dump() for corpus in this.recipe.corpora],
            "shard_samples": this.recipe.shards.samples,
        },
        inputs=[step for name, chain in kept.items() for step in (chain.dedup, counted[name])],
        code=modules("data_engine.mix", "data_engine.mixture"),
        build=build,
    )


def _shards(this: Curation, pool: StepResult, tokenizer: Path) -> StepResult:
    recipe = this.recipe
    frames = [result.table("frames") for name, result in this.run.done.items() if name.startswith("probe.")]
    inputs = [pool, *(result for name, result in this.run.done.items() if name.startswith("probe."))]

    def build(folder: Path) -> Counts:
        layout = shards.Layout(
            store=this.store,
            frames=_joined(frames, folder / "_frames"),
            fps=recipe.frames.fps,
            threshold=visual_budget(recipe.preset).similarity,
            max_side=recipe.shards.max_side,
            preset=recipe.preset,
        )
        work = functools.partial(shards.shard_partition, layout=layout, folder=folder / "shards")
        parts = tables.parts(pool.table("pool"))
        report = functools.partial(this.progress, "shards")
        partition.run(this.runner or "ray", work, parts, folder, report)
        files = sorted((folder / "shards").glob("*.tar"))
        about = {
            "preset": recipe.preset,
            "tokenizer": str(tokenizer.resolve()),
            "mixture": recipe.mixture.model_dump(),
        }
        shards.write_manifest(folder / "shards", files, about)
        return {"shards": len(files), "samples_kept": sum(tables.pq.read_metadata(part).num_rows for part in parts)}

    result = this.run.step(
        "shards",
        config={"shards": recipe.shards.model_dump(), "frames": recipe.frames.model_dump(), "preset": recipe.preset},
        inputs=inputs,
        code=modules("data_engine.shards", "data_engine.clips", "data_engine.media"),
        build=build,
    )
    _publish(result.table("shards"), this.run.out / "shards")
    return result


def _joined(folders: Sequence[Path], target: Path) -> Path:
    """One folder that shows the frame tables of all corpora, by links."""
    target.mkdir(parents=True, exist_ok=True)
    for file in (file for folder in folders for file in tables.parts(folder)):
        link = target / file.name
        if not link.is_symlink():
            link.symlink_to(file.resolve())
    return target


def _publish(folder: Path, link: Path) -> None:
    """Points `DIR/shards` at the step that made them, in one rename."""
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(folder.relative_to(link.parent))
    fresh.replace(link)


def _rows(folder: Path, *names: str) -> Counts:
    counted = {name: sum(tables.pq.read_metadata(p).num_rows for p in tables.parts(folder / name)) for name in names}
    return {**counted, "samples_kept": counted[names[0]]}


def _statuses(verdicts: pa.Table) -> Counts:
    found = {row["values"]: row["counts"] for row in verdicts["status"].value_counts().to_pylist()}
    counts = {f"samples_{status}": found.get(status, 0) for status in ("kept", "dropped", "quarantined")}
    return {"samples_in": len(verdicts), **counts}


def corpora_counts(this: Curation) -> dict[str, dict[str, int]]:
    """Per corpus: ingested = kept + dropped + quarantined, records that could not be read among the last."""
    result = {}
    for corpus in this.recipe.corpora:
        read = this.run.done[f"ingest.{corpus.corpus}"].record["counts"]
        final = this.run.done[f"dedup.{corpus.corpus}"].record["counts"]
        result[corpus.corpus] = {
            "ingested": read["samples"] + read["quarantine"],
            "kept": final["samples_kept"],
            "dropped": final["samples_dropped"],
            "quarantined": final["samples_quarantined"] + read["quarantine"],
        }
    return result


def summarise(this: Curation, failed: Sequence[str]) -> dict[str, Any]:
    """The curation's part of summary.json."""
    done = this.run.done
    report: dict[str, Any] = {
        "corpora": corpora_counts(this),
        "gate": gates.summary(done["gate"].folder),
        "seconds": {name: result.record["seconds"] for name, result in done.items()},
    }
    if not failed:
        report["mix"] = mix.summary(done["mix"].folder)
        report["shards"] = shards.summary(done["shards"].table("shards"))
    return report


def _json(data: Any) -> bytes:
    import json

    return json.dumps(data, indent=1, ensure_ascii=False).encode()
