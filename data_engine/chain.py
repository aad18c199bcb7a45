"""The steps of one corpus, each on the one before: ingest, rewrite, make, probe, OCR, measure, decide; passes, end."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine import ingest, judge, label, making, probe, rewrites, tables, taxonomy, tombstones
from data_engine.curation import Curation, row_counts
from data_engine.judge import Sight
from data_engine.operators.sft import TaskType
from data_engine.passes import run_passes
from data_engine.recipe import Corpus
from data_engine.runners import needs
from data_engine.runners.partition import RunnerName, Work
from data_engine.select import select, statuses
from data_engine.step import Counts, StepResult
from data_engine.tombstones import Tombstone


@dataclass(frozen=True, slots=True)
class Chain:
    """The steps of one corpus: its media, its verdicts, and its kept samples."""

    ingest: StepResult
    probe: StepResult
    decide: StepResult
    dedup: StepResult


def chain_of(this: Curation, corpus: Corpus) -> Chain:
    """The steps of a corpus that are done."""
    return Chain(*(this.run.done[f"{name}.{corpus.corpus}"] for name in ("ingest", "probe", "decide", "dedup")))


def run_corpus(this: Curation, corpus: Corpus) -> Chain:
    read = _ingest(this, corpus)
    shown = rewrites.run_rewrites(this, corpus, read)
    films = _probe_films(this, corpus, shown) if making.watches(corpus) else None
    shown = [shown, *making.run_makers(this, corpus, shown, films)][-1]
    probed = _probe(this, corpus, shown, films)
    operators = judge.build(judge.specs_of(this.recipe, corpus))
    labelled = _label(this, corpus, shown, probed) if any("ocr" in name for name, _ in operators) else None
    found = labelled or shown
    readings = labelled.table("ocr") if labelled else None
    footage = this.recipe.target == "samples"
    sight = Sight(found.table("samples"), probed.folder, readings, this.store, footage=footage)
    topics = _taxonomy(this, corpus, found, operators)
    measured = _measure(this, corpus, operators, sight, [found, probed], topics)
    decided = _decide(this, corpus, operators, measured)
    passes = run_passes(this, corpus, found, measured, decided)
    return Chain(read, probed, decided, select(this, corpus, found, measured, decided, passes))


def _removed(this: Curation, corpus: Corpus) -> tuple[list[Tombstone], str]:
    """All that was removed for good, and what a step's identity knows of it: the tombstones of other runs.

    A removal in this run has taken its rows out of this run's steps, so that they need not be made anew.
    """
    others = tombstones.read(Path(this.recipe.root, release) for release in corpus.against)
    seen = hashlib.sha256(json.dumps(others).encode()).hexdigest()[:12] if others else ""
    return [*tombstones.read([this.run.out]), *others], seen


def _ingest(this: Curation, corpus: Corpus) -> StepResult:
    root = Path(this.recipe.root)
    removed, seen = _removed(this, corpus)

    def build(folder: Path) -> Counts:
        units = ingest.list_units(corpus, root)
        work = functools.partial(ingest.ingest_partition, corpus=corpus, root=root, store=this.store, removed=removed)
        most = min(getattr(ingest.reader(source), "PARTITION_UNITS", 256) for source in corpus.sources)
        size = max(1, min(most, -(-len(units) // 8)))
        this.partitions(f"ingest {corpus.corpus}", work, units, size, folder, "spark")
        return {"units": len(units), **row_counts(folder, "samples", "quarantine")}

    return this.run.step(
        f"ingest.{corpus.corpus}",
        config={"sources": [source.model_dump() for source in corpus.sources]},
        inputs=[ingest.fingerprint(corpus, root), *filter(None, [seen])],
        code=["data_engine.ingest", *(f"data_engine.sources.{source.format}" for source in corpus.sources)],
        build=build,
    )


def _probe_films(this: Curation, corpus: Corpus, read: StepResult) -> StepResult:
    """The films that makers are to watch, probed before: their facts, and their frames at the recipe's rate."""

    def build(folder: Path) -> Counts:
        listing = _distinct_media(tables.parts(read.table("samples")))
        return _probe_media(this, corpus, listing.filter(pc.equal(listing["kind"], "video")), folder)

    return _probe_step(this, f"films.{corpus.corpus}", [read], build)


def _probe(this: Curation, corpus: Corpus, read: StepResult, films: StepResult | None) -> StepResult:
    def build(folder: Path) -> Counts:
        listing = _distinct_media(tables.parts(read.table("samples")))
        if films:
            listing = _carry_over(films.folder, listing, folder)
        return _probe_media(this, corpus, listing, folder)

    return _probe_step(this, f"probe.{corpus.corpus}", [read, *filter(None, [films])], build)


def _probe_step(this: Curation, name: str, inputs: Sequence[StepResult], build: Callable[[Path], Counts]) -> StepResult:
    config, code = this.recipe.frames.model_dump(), ["data_engine.probe"]
    return this.run.step(name, config=config, inputs=inputs, code=code, build=build)


def _probe_media(this: Curation, corpus: Corpus, listing: pa.Table, folder: Path) -> Counts:
    work = functools.partial(
        probe.probe_partition, store=this.store, frames=folder / "frames", config=this.recipe.frames
    )
    size = 1 if "video" in listing["kind"].unique().to_pylist() else 512
    this.partitions(f"probe {corpus.corpus}", work, listing, size, folder, "ray", blame=probe.unreadable)
    return row_counts(folder, "media", "bad")


def _carry_over(films: Path, listing: pa.Table, folder: Path) -> pa.Table:
    """What of the listing is still to be probed: the films that are known are taken over, their frames linked."""
    wanted = listing["key"].combine_chunks()
    for name in ("media", "bad"):
        known = tables.read(films / name)
        known = known.filter(pc.is_in(known["key"], value_set=wanted))
        tables.write(known, folder / name / "films.parquet")
        listing = listing.filter(pc.invert(pc.is_in(listing["key"], value_set=known["key"].combine_chunks())))
        for key in known["key"].to_pylist() if name == "media" else ():
            frames = folder / "frames" / f"{key}.parquet"
            frames.parent.mkdir(exist_ok=True)
            frames.unlink(missing_ok=True)
            frames.hardlink_to(films / "frames" / frames.name)
    return listing


def _distinct_media(parts: Sequence[Path]) -> pa.Table:
    """(key, kind) of every medium of the parts, by key; a frame of a video needs the video."""
    known, fresh = _distinct([]), list[pa.Table]()
    for part in parts:
        media = pq.read_table(part, columns=["media"])["media"].combine_chunks().flatten()
        video = pc.or_(pc.not_equal(media.field("kind"), "image"), pc.is_valid(media.field("start")))
        fresh.append(_distinct([pa.table({"key": media.field("key"), "video": video})]))
        if sum(map(len, fresh)) > max(len(known), 1 << 20):  # so that all are grouped again a few times only
            known, fresh = _distinct([known, *fresh]), []
    found = _distinct([known, *fresh]).sort_by("key")
    return pa.table({"key": found["key"], "kind": pc.if_else(found["video"], "video", "image")})


def _distinct(rows: Sequence[pa.Table]) -> pa.Table:
    """(key, video) of every key once."""
    schema = pa.schema([("key", pa.string()), ("video", pa.bool_())])
    whole = pa.concat_tables([schema.empty_table(), *(table.cast(schema) for table in rows)])
    return whole.group_by("key").aggregate([("video", "max")]).rename_columns(["key", "video"])


def _label(this: Curation, corpus: Corpus, read: StepResult, probed: StepResult) -> StepResult:
    def build(folder: Path) -> Counts:
        found = tables.read(read.table("samples"))
        readable = {row["key"] for row in tables.rows(probed.table("media"), ["key"])}
        usable = pa.array([all(m["key"] in readable for m in media) for media in found["media"].to_pylist()])
        work = functools.partial(label.label_partition, store=this.store, rewriting=rewrites.build(corpus.rewrites))
        this.partitions(f"OCR {corpus.corpus}", work, found.filter(usable), 24, folder, "ray", needs.OCR)
        tables.write(found.filter(pc.invert(usable)), folder / "samples" / "unreadable.parquet")
        return row_counts(folder, "samples", "ocr")

    return this.run.step(
        f"ocr.{corpus.corpus}",
        config={"engine": "rapidocr", **({"rewrites": corpus.rewrites} if corpus.rewrites else {})},
        inputs=[read, probed],
        code=["data_engine.label"],
        build=build,
    )


def _taxonomy(this: Curation, corpus: Corpus, found: StepResult, operators: judge.Operators) -> StepResult | None:
    """A task-type operator without a vocabulary gets the one of its own corpus, counted over a share of it."""
    lacking = [item for _, item in operators if isinstance(item, TaskType) and item.num_topics and not item.topics]
    if not lacking:
        return None
    num, least = lacking[0].num_topics, lacking[0].topic_count

    def build(folder: Path) -> Counts:
        questions = taxonomy.some_questions(tables.parts(found.table("samples")))
        words = taxonomy.vocabulary(questions, num, least)
        (folder / "topics.txt").write_text("\n".join(words), encoding="utf-8")
        return {"questions": len(questions), "topics": len(words)}

    return this.run.step(
        f"taxonomy.{corpus.corpus}",
        config=[num, least],
        inputs=[found],
        code=("data_engine.taxonomy",),
        build=build,
    )


def _with_topics(operators: judge.Operators, counted: StepResult) -> judge.Operators:
    """What measures, not what is stored of it: a step is not to depend on where its folder lies."""
    topics = {"topics": str(counted.folder / "topics.txt")}
    lacking = [isinstance(operator, TaskType) and not operator.topics for _, operator in operators]
    return [
        (name, operator.model_copy(update=topics) if lacks else operator)
        for (name, operator), lacks in zip(operators, lacking, strict=True)
    ]


def _look(
    this: Curation, corpus: Corpus, operators: judge.Operators, sight: Sight, inputs: Sequence[StepResult]
) -> StepResult | None:
    """The measures that open the media (Ray), if any operator wants some."""
    looking = [item for item in operators if item[1].needs_media]
    work = functools.partial(judge.look_partition, operators=looking, sight=sight)
    return _measure_step(this, corpus, "look", "looked", looking, work, "ray", inputs) if looking else None


def _measure(
    this: Curation,
    corpus: Corpus,
    operators: judge.Operators,
    sight: Sight,
    inputs: Sequence[StepResult],
    topics: StepResult | None,
) -> StepResult:
    """All measures: those of words and of what is known of media are made here (Spark)."""
    looked = _look(this, corpus, operators, sight, inputs)
    plain = [item for item in operators if not item[1].needs_media]
    if looked:
        sight, inputs = dataclasses.replace(sight, looked=looked.table("looked")), [*inputs, looked]
    measuring = _with_topics(plain, topics) if topics else plain
    work = functools.partial(judge.measure_partition, operators=measuring, sight=sight)
    inputs = [*inputs, *filter(None, [topics])]
    return _measure_step(this, corpus, "measure", "measures", plain, work, "spark", inputs, sight.footage)


def _measure_step(
    this: Curation,
    corpus: Corpus,
    name: str,
    table: str,
    operators: judge.Operators,
    work: Work,
    usual: RunnerName,
    inputs: Sequence[StepResult],
    footage: bool = False,
) -> StepResult:
    def build(folder: Path) -> Counts:
        parts = tables.parts(inputs[0].table("samples"))
        wanted = needs.together(operator.needs() for _, operator in operators)
        this.over_parts(f"{name} {corpus.corpus}", work, parts, folder, usual, wanted)
        return row_counts(folder, table)

    return this.run.step(
        f"{name}.{corpus.corpus}",
        config=[*judge.measured_config(operators), *(["footage"] if footage else [])],
        inputs=inputs,
        code=("data_engine.judge", "data_engine.describe", *_modules_of(operators)),
        build=build,
    )


def _modules_of(operators: judge.Operators) -> list[str]:
    return sorted({type(operator).__module__ for _, operator in operators})


def _decide(this: Curation, corpus: Corpus, operators: judge.Operators, measured: StepResult) -> StepResult:
    removed, seen = _removed(this, corpus)

    def build(folder: Path) -> Counts:
        measures = measured.table("measures")
        settled = judge.settled(operators, measures)
        judge.write_operators(settled, folder)
        work = functools.partial(judge.decide_partition, operators=settled, measures=measures, removed=removed)
        this.over_parts(f"decide {corpus.corpus}", work, tables.parts(measures), folder, "local")
        return statuses(tables.parts(folder / "verdicts"))

    return this.run.step(
        f"decide.{corpus.corpus}",
        config=judge.specs_of(this.recipe, corpus),
        inputs=[measured, *filter(None, [seen])],
        code=("data_engine.judge", "data_engine.tombstones", *_modules_of(operators)),
        build=build,
    )
