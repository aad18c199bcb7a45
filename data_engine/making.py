"""What curation makes of samples: the recipe's `make`, steps after rewriting that turn samples into other samples.

`make` is a list of stages. Each stage names one or more makers; all of them get the samples of the stage before, and
what they make together is what the next stage, or the probe, gets:

    make:
      - shots: {}                                    # films into shots
      - captions: {fps: 1.0}                         # and of every shot a caption
        frame_text: {}                               # and a reading exercise

A maker is a frozen model whose fields are the recipe's keys. `make` gives every new sample with what is to be known
of its making (table `made`), and a `Quarantined` for each sample it could not serve: nothing is lost in silence.
`keep` hands the samples of the stage before on as they are.
"""

import dataclasses
import functools
import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from data_engine import sample as samples_
from data_engine import tables
from data_engine.curation import Curation, row_counts
from data_engine.ingest import QUARANTINE_SCHEMA
from data_engine.recipe import Corpus
from data_engine.runners.partition import RunnerName
from data_engine.sample import Media, Message, Modality, Sample
from data_engine.sources.common import Quarantined
from data_engine.step import Counts, StepResult
from strict_yaml import Strict

MADE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("maker", pa.string()),
        ("teacher", pa.string()),
        ("about", pa.map_(pa.string(), pa.string())),
    ]
)


@dataclass(frozen=True, slots=True)
class Tools:
    """What a maker has at hand: the media store, and a folder in the run's own that outlives its steps."""

    store: Path
    cache: Path


@dataclass(frozen=True, slots=True)
class Made:
    """A new sample; the `teacher` whose words are in it, if any, and what else `keyeforge data why` shall tell."""

    sample: Sample
    teacher: str = ""
    about: Mapping[str, str] = field(default_factory=dict)


class Maker(Strict):
    """Turns the samples of a part into others. `runner`: Spark where words suffice, Ray where media or models do."""

    runner: ClassVar[RunnerName] = "ray"

    def require(self) -> None:
        """Raises RecipeError where a model, font or tool that it needs is missing."""

    def make(self, samples: Sequence[Sample], tools: Tools) -> Iterator[Made | Quarantined]:
        """In an order that depends on the samples and fields alone."""
        raise NotImplementedError


class Keep(Maker):
    """The samples of the stage before, as they are."""

    runner: ClassVar[RunnerName] = "spark"

    def make(self, samples: Sequence[Sample], tools: Tools) -> Iterator[Made | Quarantined]:
        return (Made(sample) for sample in samples)


# The recipe's names for makers, and where they are: loaded only if named.
MAKERS: Mapping[str, str] = {
    "keep": "data_engine.making.Keep",
    "shots": "data_engine.makers.shots.Shots",
    "frame_text": "data_engine.makers.frame_text.FrameText",
    "segments": "data_engine.makers.segments.Segments",
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
        licence=_all(parent.licence for parent in parents),
        attribution=_all(parent.attribution for parent in parents),
        source=first.source,
        origin=f"{first.origin}#{place}" if place else first.origin,
        group=first.group,
        parents=tuple(dict.fromkeys(parent.id for parent in parents)),
    )


def _all(names: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(filter(None, names)))


def unmade(sample: Sample, field: str, reason: str) -> Quarantined:
    """What a maker yields for a sample it could not serve."""
    return Quarantined(sample.corpus, sample.origin or sample.id, field, reason)


def run_makers(this: Curation, corpus: Corpus, found: StepResult) -> list[StepResult]:
    """One step a stage, each on the one before; none where the recipe makes nothing."""
    done: list[StepResult] = []
    for number, spec in enumerate(corpus.make, start=1):
        done.append(_run_stage(this, corpus, number, spec, done[-1] if done else found))
    return done


def steps_of(names: Iterable[str], corpus: str) -> list[str]:
    """Which of a run's steps made samples of the corpus, in order."""
    found = [name for name in names if name.startswith("make") and name.partition(".")[2] == corpus]
    return sorted(found, key=lambda name: int(name.partition(".")[0].removeprefix("make")))


def _run_stage(
    this: Curation, corpus: Corpus, number: int, spec: Mapping[str, Mapping[str, Any]], before: StepResult
) -> StepResult:
    stage = build(spec)
    usual: RunnerName = "ray" if any(rule.runner == "ray" for _, rule in stage) else "spark"

    def run(folder: Path) -> Counts:
        samples = before.table("samples")
        tools = Tools(this.store, this.run.out / "requests")
        work = functools.partial(make_partition, stage=stage, samples=samples, tools=tools)
        this.over_parts(f"make {corpus.corpus}", work, tables.parts(samples), folder, usual)
        return row_counts(folder, "samples", "quarantine")

    return this.run.step(
        f"make{number}.{corpus.corpus}",
        config=spec,
        inputs=[before],
        code=["data_engine.making", *(type(rule).__module__ for _, rule in stage)],
        build=run,
    )


def make_partition(units: pa.Table, *, stage: Stage, samples: Path, tools: Tools) -> dict[str, pa.Table]:
    """A part of the samples to `samples`, `made` and `quarantine`: what all makers of the stage make of it."""
    given = samples_.from_table(pq.read_table(samples / units["part"][0].as_py()))
    return make(given, stage, tools)


def make(given: Sequence[Sample], stage: Stage, tools: Tools) -> dict[str, pa.Table]:
    """As `make_partition`, of samples in memory."""
    new: list[Sample] = []
    told: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for name, rule in stage:
        for item in rule.make(given, tools):
            if isinstance(item, Made):
                new.append(item.sample)
                about = list(item.about.items())
                told.append({"id": item.sample.id, "maker": name, "teacher": item.teacher or None, "about": about})
            else:
                source = given[0].source if given else ""
                refused.append({**dataclasses.asdict(item), "source": source})
    return {
        "samples": samples_.to_table(new),
        "made": pa.Table.from_pylist(told, schema=MADE_SCHEMA),
        "quarantine": pa.Table.from_pylist(refused, schema=QUARANTINE_SCHEMA),
    }


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
