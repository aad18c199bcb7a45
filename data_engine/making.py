"""What curation makes of samples: the recipe's `make`, steps after rewriting that turn samples into other samples.

`make` is a list of stages. Each stage names one or more makers; all of them get the samples of the stage before, and
what they make together is what the next stage, or the probe, gets:

    make:
      - shots: {}                                    # films into shots
      - captions: {fps: 1.0}                         # and of every shot a caption
        frame_text: {}                               # and a reading exercise

A maker is a frozen model whose fields are the recipe's keys. `make` gives every new sample with what is to be known of
its making (table `made`); an `Unmade` for a sample of which it makes nothing; and a `Quarantined` for one with a
fault. A sample of which no maker of a stage makes anything counts as dropped: nothing is lost in silence. `keep` hands
samples on as they are.
"""

import dataclasses
import functools
import importlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine import clips, tables
from data_engine import sample as samples_
from data_engine.curation import Curation, row_counts
from data_engine.ingest import QUARANTINE_SCHEMA
from data_engine.media import MediaStore
from data_engine.recipe import Corpus
from data_engine.runners import partition
from data_engine.runners.needs import MEDIA, Needs, together
from data_engine.runners.partition import RunnerName
from data_engine.sample import Media, Message, Modality, Sample
from data_engine.sources.common import Quarantined, joined
from data_engine.step import Counts as RowCounts
from data_engine.step import StepResult
from data_engine.teachers.counts import Counts
from data_engine.teachers.pictures import Pictures
from data_engine.teachers.recipe import Budget, Teacher
from strict_yaml import Strict

MADE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("maker", pa.string()),
        ("teacher", pa.string()),
        ("about", pa.map_(pa.string(), pa.string())),
    ]
)

UNMADE_SCHEMA = pa.schema(
    [*((name, pa.string()) for name in ("id", "source", "maker", "reason")), ("lost", pa.bool_())]
)

ASKED_SCHEMA = pa.schema([("teacher", pa.string()), ("counts", pa.string())])
CACHE = "cache"
"""The folder of a run where answers and notes are kept, whatever becomes of the steps that asked for them."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a maker has at hand: the media store; the folder of the films' `frames` and their facts (`media`).

    `cache` outlives steps: what costs much is noted there, above all what the recipe's `teachers` answered so far.
    `processes` share the teachers' rates; `counts` is filled with what became of the requests.
    """

    store: Path
    cache: Path = Path("cache")
    films: Path | None = None
    teachers: tuple[Teacher, ...] = ()
    budget: Budget | None = None
    processes: int = 1
    counts: Counts = field(default_factory=Counts)

    def times(self, film: Media) -> list[float]:
        """When a film's frames are (`clips.times`), for a maker that watches. Raises MediaError."""
        assert self.films, "only a maker that `watches` gets films"
        return clips.times(self.films / "frames", film)

    def pictures(self) -> Pictures:
        """What opens the pictures of requests."""
        return Pictures(MediaStore(self.store), self.films / "frames" if self.films else None)


@dataclass(frozen=True, slots=True)
class Made:
    """A new sample; the `teacher` whose words are in it, if any, and what else `keyeforge data why` shall tell."""

    sample: Sample
    teacher: str = ""
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unmade:
    """A sample of which a maker makes nothing, and why: a film without speech has no transcript."""

    sample: Sample
    reason: str


Outcome = Made | Unmade | Quarantined


class Maker(Strict):
    """Turns the samples of a part into others. `runner`: Spark where words suffice, Ray where media or models do."""

    runner: ClassVar[RunnerName] = "ray"

    @property
    def watches(self) -> float:
        """Frames a second that it looks at, of those that the recipe's `frames` keeps (`Tools.films`); 0: none."""
        return 0.0

    @property
    def needs(self) -> Needs:
        """What a worker that makes takes: the models it loads above all."""
        return MEDIA

    @property
    def consults(self) -> tuple[str, ...] | None:
        """The names of the teachers it asks, none for all of the recipe's; None: it asks nobody."""
        return None

    def require(self) -> None:
        """Raises RecipeError where a model, font or tool that it needs is missing."""

    def make(self, samples: Sequence[Sample], tools: Tools) -> Iterator[Outcome]:
        """In an order that depends on the samples and fields alone."""
        raise NotImplementedError


class Keep(Maker):
    """The samples of the stage before, as they are."""

    runner: ClassVar[RunnerName] = "spark"

    def make(self, samples: Sequence[Sample], tools: Tools) -> Iterator[Outcome]:
        return (Made(sample) for sample in samples)


# The recipe's names for makers, and where they are: loaded only if named.
MAKERS: Mapping[str, str] = {
    "captions": "data_engine.makers.captions.Captions",
    "frame_text": "data_engine.makers.frame_text.FrameText",
    "interleaved_speech": "data_engine.makers.speech.InterleavedSpeech",
    "keep": "data_engine.making.Keep",
    "many_images": "data_engine.makers.many_images.ManyImages",
    "rearrange": "data_engine.makers.rearrange.Rearrange",
    "segments": "data_engine.makers.segments.Segments",
    "shots": "data_engine.makers.shots.Shots",
    "temporal_questions": "data_engine.makers.temporal.TemporalQuestions",
    "traps": "data_engine.makers.traps.Traps",
}
Stage = Sequence[tuple[str, Maker]]


def maker(name: str) -> type[Maker]:
    module, _, found = MAKERS[name].rpartition(".")
    kind: type[Maker] = getattr(importlib.import_module(module), found)
    return kind


def build(spec: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Maker]]:
    """One stage of the recipe. Unknown names are refused by `curate.check`."""
    return [(name, maker(name)(**fields)) for name, fields in spec.items()]


def derived(
    parents: Sequence[Sample],
    task: str,
    messages: Sequence[Message],
    media: Sequence[Media] = (),
    modality: Modality | None = None,
    place: str = "",
) -> Sample:
    """A sample made of others: rights of all of them, origin and group of the first; `place` tells siblings apart."""
    first = parents[0]
    return Sample(
        corpus=first.corpus,
        modality=modality or first.modality,
        task=task,
        messages=tuple(messages),
        media=tuple(media),
        licence=joined(*(parent.licence for parent in parents)),
        attribution=joined(*(parent.attribution for parent in parents)),
        source=first.source,
        origin=f"{first.origin}#{place}" if place else first.origin,
        group=first.group,
        parents=tuple(dict.fromkeys(parent.id for parent in parents)),
    )


def faulty(sample: Sample, field: str, reason: str) -> Quarantined:
    """What a maker yields for a sample with a fault."""
    return Quarantined(sample.corpus, sample.origin or sample.id, field, reason)


def watches(corpus: Corpus) -> bool:
    """Whether some maker of the corpus is to see films."""
    return any(rule.watches for spec in corpus.make for _, rule in build(spec))


def teachers_of(rule: Maker, teachers: Sequence[Teacher]) -> tuple[Teacher, ...]:
    """Those of the recipe's teachers that a maker asks."""
    names = rule.consults
    return tuple(one for one in teachers if names is not None and (not names or one.name in names))


def _settings(teacher: Teacher) -> list[Any]:
    """What a teacher's answers depend on: what a step's identity knows of it."""
    return [teacher.name, teacher.identity, teacher.max_tokens, teacher.temperature, teacher.seed]


def run_makers(this: Curation, corpus: Corpus, found: StepResult, films: StepResult | None) -> list[StepResult]:
    """One step a stage, each on the one before; none where the recipe makes nothing."""
    done: list[StepResult] = []
    for number, spec in enumerate(corpus.make, start=1):
        done.append(_run_stage(this, corpus, number, spec, [done[-1] if done else found, *filter(None, [films])]))
    return done


def steps_of(names: Iterable[str], corpus: str) -> list[str]:
    """Which of a run's steps made samples of the corpus, in order."""
    found = [name for name in names if name.startswith("make") and name.partition(".")[2] == corpus]
    return sorted(found, key=lambda name: int(name.partition(".")[0].removeprefix("make")))


def _run_stage(
    this: Curation, corpus: Corpus, number: int, spec: Mapping[str, Mapping[str, Any]], inputs: Sequence[StepResult]
) -> StepResult:
    stage = build(spec)
    recipe = this.recipe
    asked = {
        name: [_settings(one) for one in teachers_of(rule, recipe.teachers)]
        for name, rule in stage
        if rule.consults is not None
    }
    usual: RunnerName = "ray" if any(rule.runner == "ray" for _, rule in stage) else "spark"

    def run(folder: Path) -> RowCounts:
        samples, films = inputs[0].table("samples"), inputs[1].folder if inputs[1:] else None
        parts, needs = tables.parts(samples), together(rule.needs for _, rule in stage)
        processes = min(len(parts), partition.width(this.runner or usual, needs)) if asked else 1
        tools = Tools(this.store, this.run.out / CACHE, films, recipe.teachers, recipe.budget, processes)
        work = functools.partial(make_partition, stage=stage, samples=samples, tools=tools)
        this.over_parts(f"make {corpus.corpus}", work, parts, folder, usual, needs)
        return {**row_counts(folder, "samples", "quarantine", "unmade"), "lost": count_lost(folder)}

    return this.run.step(
        f"make{number}.{corpus.corpus}",
        config=[spec, asked] if asked else spec,
        inputs=inputs,
        code=["data_engine.making", *(type(rule).__module__ for _, rule in stage)],
        build=run,
    )


def make_partition(units: pa.Table, *, stage: Stage, samples: Path, tools: Tools) -> dict[str, pa.Table]:
    """A part of the samples to `samples`, `made`, `unmade` and `quarantine`: what the whole stage makes of it."""
    given = samples_.from_table(pq.read_table(samples / units["part"][0].as_py()))
    return make(given, stage, dataclasses.replace(tools, counts=Counts()))


def make(given: Sequence[Sample], stage: Stage, tools: Tools) -> dict[str, pa.Table]:
    """As `make_partition`, of samples in memory."""
    names = {teacher.name for teacher in tools.teachers}
    done = [(name, _owned(item, names)) for name, rule in stage for item in rule.make(given, tools)]
    made = [(name, item) for name, item in done if isinstance(item, Made)]
    source = given[0].source if given else ""
    about = [
        {"id": item.sample.id, "maker": name, "teacher": item.teacher or None, "about": list(item.about.items())}
        for name, item in made
    ]
    refused = [{**dataclasses.asdict(item), "source": source} for _, item in done if isinstance(item, Quarantined)]
    left = _left(given, done)
    return {
        "samples": samples_.to_table(item.sample for _, item in made),
        "made": pa.Table.from_pylist(about, schema=MADE_SCHEMA),
        "unmade": pa.Table.from_pylist(left, schema=UNMADE_SCHEMA),
        "quarantine": pa.Table.from_pylist(refused, schema=QUARANTINE_SCHEMA),
        **asked_table(tools.counts),
    }


def _owned(item: Outcome, teachers: Collection[str]) -> Outcome:
    """What a teacher of the recipe worded is also under that teacher's terms (`rights.teachers`)."""
    if not isinstance(item, Made) or item.teacher not in teachers:
        return item
    licence = joined(item.sample.licence, f"teacher:{item.teacher}")
    return dataclasses.replace(item, sample=dataclasses.replace(item.sample, licence=licence))


def asked_table(counts: Counts) -> dict[str, pa.Table]:
    """What became of the requests of a part, a row for each teacher; no table where nobody was asked."""
    rows = [{"teacher": name, "counts": json.dumps(told)} for name, told in counts.as_data().items()]
    return {"asked": pa.Table.from_pylist(rows, schema=ASKED_SCHEMA)} if rows else {}


def count_lost(folder: Path) -> int:
    """Samples of which a step made nothing at all."""
    return sum(pc.sum(pq.read_table(part)["lost"]).as_py() or 0 for part in tables.parts(folder / "unmade"))


def _left(given: Sequence[Sample], done: Sequence[tuple[str, Outcome]]) -> list[dict[str, Any]]:
    """Rows of `unmade`; the first of a sample that lives on in none of what was made says that it is `lost`."""
    alive = {name for _, item in done if isinstance(item, Made) for name in (item.sample.id, *item.sample.parents)}
    faulty_ones = {item.locator for _, item in done if isinstance(item, Quarantined)}
    told = [(item.sample, name, item.reason) for name, item in done if isinstance(item, Unmade)]
    known = alive | {sample.id for sample, _, _ in told}
    silent = [one for one in given if one.id not in known and (one.origin or one.id) not in faulty_ones]
    rows = []
    for sample, name, reason in [*told, *((one, "", "no maker of the stage took it up") for one in silent)]:
        about = {"id": sample.id, "source": sample.source, "maker": name, "reason": reason}
        rows.append({**about, "lost": sample.id not in alive})
        alive.add(sample.id)
    return rows


def told(made: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `made` as lines of a sample's story."""
    return [
        {
            "operator": row["maker"],
            "verdict": "made",
            "reason": f"by {row['teacher']}" if row["teacher"] else "",
            "measures": dict(row["about"] or ()),
            "settings": {},
        }
        for row in made
    ]
