"""Step 1, collecting: questions with known answers, from curated tables, raw sources and files of their own."""

import importlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash
from pydantic import ValidationError

from cot_factory.question import Question, named, to_table
from cot_factory.recipe import Factory, Questions
from cot_factory.record import Box, Shown, Span
from data_engine.ingest import QUARANTINE_SCHEMA
from data_engine.media import MediaStore
from data_engine.sample import Modality, Sample
from data_engine.sources import records
from data_engine.sources.common import Quarantined, RecordError, inside, put_image_file
from data_engine.verify.truth import truth_from
from strict_yaml import RecipeError, Strict, explain


class FileQuestion(Strict):
    """A line of a file of questions. `truth` may leave out its `value`: the answer. `boxes` are `[left, top, right,
    bottom, label]` in pixels of the first image, `spans` `[start, end, label]` in seconds of the video.
    """

    question: str
    answer: str
    truth: dict[str, Any] | None = None
    images: tuple[str, ...] = ()
    video: str | None = None
    boxes: tuple[tuple[float, float, float, float, str], ...] = ()
    spans: tuple[tuple[float, float, str], ...] = ()
    facts: tuple[str, ...] = ()
    task: str = "reasoning"
    licence: str = ""
    attribution: str = ""
    group: str = ""


def collect(spec: Questions, root: Path, store: MediaStore) -> Iterator[Question | Quarantined]:
    """The questions of one entry of the recipe; with `limit`, those whose ids hash lowest."""
    found = list(_of_file(spec, root, store) if spec.file else _of_source(spec, root, store))
    questions = [named(item) for item in found if isinstance(item, Question)]
    distinct = list({question.id: question for question in questions}.values())
    if spec.limit is not None:
        distinct = sorted(distinct, key=lambda one: xxhash.xxh3_64_intdigest(one.id.encode()))[: spec.limit]
    yield from distinct
    yield from (item for item in found if isinstance(item, Quarantined))


def _of_file(spec: Questions, root: Path, store: MediaStore) -> Iterator[Question | Quarantined]:
    assert spec.file
    path = root / spec.file
    if not path.is_file():
        raise RecipeError(f"questions.{spec.domain}.file: {path}: no such file")
    for unit in records.units(path, 1 << 19):
        for where, row in records.rows(path, unit, tuple(FileQuestion.model_fields)):
            try:
                if isinstance(row, RecordError):
                    raise row
                yield _from_line(FileQuestion.model_validate(row), spec, where, path.parent, store)
            except ValidationError as error:
                fault = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")  # a misspelt key first
                line = explain(Path(path.name), FileQuestion, fault)
                yield Quarantined(spec.domain, where, ".".join(map(str, fault["loc"])), line)
            except RecordError as error:
                yield error.at(spec.domain, where)


def _from_line(line: FileQuestion, spec: Questions, where: str, folder: Path, store: MediaStore) -> Question:
    if line.video and line.images:
        raise RecordError("video", "is given beside images; give one or the other")
    if line.boxes and not line.images:
        raise RecordError("boxes", "are of the first image, and there is none; give images")
    if line.spans and not line.video:
        raise RecordError("spans", "are of the video, and there is none; give video")
    shown = [Shown("image", put_image_file(name, folder, store)) for name in line.images]
    if shown and line.boxes:
        shown[0] = replace(shown[0], boxes=tuple(Box((a, b, c, d), label) for a, b, c, d, label in line.boxes))
    modality: Modality = "image" if shown else "text"
    if line.video:
        shown, modality = [_film(line, folder, store)], "video"
    return Question(
        domain=spec.domain, text=line.question, reference=line.answer, facts=line.facts, shown=tuple(shown),
        truths=(truth_of(line.truth or spec.truth, line.answer),), modality=modality, task=line.task,
        licence=line.licence, attribution=line.attribution, source=str(spec.file), origin=where, group=line.group,
    )  # fmt: skip


def _film(line: FileQuestion, folder: Path, store: MediaStore) -> Shown:
    assert line.video
    try:
        key = store.put_file(inside(folder, line.video))
    except (OSError, ValueError) as error:
        raise RecordError("video", str(error)) from error
    return Shown("video", key, spans=tuple(Span(*span) for span in line.spans))


def truth_of(truth: Mapping[str, Any], answer: str) -> dict[str, Any]:
    """A truth as data, checked; without a value of its own it is the answer. Raises RecordError (field `truth`)."""
    whole = {**truth, "value": truth.get("value", answer)}
    try:
        truth_from(whole)
    except RecipeError as error:
        raise RecordError("truth", str(error)) from error
    return whole


def _of_source(spec: Questions, root: Path, store: MediaStore) -> Iterator[Question | Quarantined]:
    """One question a sample of one turn and its answer."""
    source = spec.source
    assert source
    reader = importlib.import_module(f"data_engine.sources.{source.format}")
    base = inside(root, source.path) if not Path(source.path).is_absolute() else Path(source.path)
    kept: list[tuple[Sample, str, str]] = []
    for unit in reader.units(base, source.options):
        for item in reader.read(base, unit, spec.domain, source, store):
            if isinstance(item, Quarantined):
                yield item
            elif (turns := _turns(item)) is None:
                yield Quarantined(spec.domain, item.origin or item.id, "messages", "not one question and its answer")
            else:
                kept.append((item, *turns))
    known = _siblings(kept) if spec.facts else {}
    for sample, text, answer in kept:
        try:
            yield _from_sample(sample, text, answer, spec, known)
        except RecordError as error:
            yield error.at(spec.domain, sample.origin)


def _turns(sample: Sample) -> tuple[str, str] | None:
    said = [message for message in sample.messages if message.role != "system"]
    if [message.role for message in said] != ["user", "assistant"]:
        return None
    return said[0].text.strip(), said[1].text.strip()


Known = Mapping[tuple[str, ...], Sequence[tuple[str, str]]]


def _siblings(kept: Sequence[tuple[Sample, str, str]]) -> Known:
    """What is asked, and answered, of the same pictures."""
    known: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
    for sample, text, answer in kept:
        if sample.media:
            known[_keys(sample)].append((text, answer))
    return known


def _keys(sample: Sample) -> tuple[str, ...]:
    return tuple(item.key for item in sample.media)


def _from_sample(sample: Sample, text: str, answer: str, spec: Questions, known: Known) -> Question:
    others = [pair for pair in known.get(_keys(sample), ()) if pair[0] != text]
    shown = tuple(Shown(item.kind, item.key, item.start, item.end) for item in sample.media)
    rights = {name: getattr(sample, name) for name in ("licence", "attribution", "source", "origin", "group")}
    return Question(
        domain=spec.domain, text=text, reference=answer, truths=(truth_of(spec.truth, answer),),
        facts=tuple(dict.fromkeys(f"{asked} {told}" for asked, told in others)), shown=shown,
        modality=sample.modality, task=sample.task, parents=(sample.id,), **rights,
    )  # fmt: skip


def collected(units: pa.Table, *, recipe: Factory, store: Path) -> dict[str, pa.Table]:
    """An entry of the recipe's `questions` to its questions, and to what cannot be used."""
    spec = recipe.questions[units["entry"][0].as_py()]
    found = list(collect(spec, Path(recipe.root), MediaStore(store)))
    refused = [{**asdict(item), "source": ""} for item in found if isinstance(item, Quarantined)]
    return {
        "questions": to_table(item for item in found if isinstance(item, Question)),
        "quarantine": pa.Table.from_pylist(refused, schema=QUARANTINE_SCHEMA),
    }
