"""What curation changes in a sample: the recipe's `rewrites`, one step between reading and measuring, row for row.

A rewrite is a frozen model whose fields are the recipe's keys, with one pure function: `clean(text)` for one that
changes words, `find(pixels)` for one that blurs regions of pictures. A sample that changes gets the id of its new
content and what it was as its only parent; the table `rewritten` says what was done to it. All others stay as they are.

The step comes before the probe, so that every picture is measured once, as it is shown, and before OCR, so that no
reader sees what was blurred. What OCR then reads is cleaned before it is stored (`clean_reading`).
"""

import dataclasses
import functools
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from PIL import Image
from pydantic import Field, model_validator

from data_engine import sample as samples_
from data_engine import tables
from data_engine.curation import Curation, row_counts
from data_engine.describe import grouped, owners
from data_engine.media import MediaStore
from data_engine.models import detector
from data_engine.operators import interleaved, pii
from data_engine.operators.image_text import open_image
from data_engine.operators.safety import unrecognisable
from data_engine.recipe import Corpus
from data_engine.runners.needs import DETECTOR
from data_engine.sample import Media, Message, Sample
from data_engine.step import Counts, StepResult
from strict_yaml import Strict


class MaskPii(Strict):
    """Personal data in every turn gives way to the mark of its kind: `<EMAIL>`, `<IP>`, `<CARD>`, `<PHONE>`, ..."""

    suspects: ClassVar[str] = pii.SUSPECT

    def clean(self, text: str) -> tuple[str, Counter[str]]:
        return pii.masked(text)


class Ungarble(Strict):
    """Characters that no writer means are taken out: U+FFFD, controls, private use. Mojibake stays, for `garbled`."""

    suspects: ClassVar[str] = interleaved.SENSELESS

    def clean(self, text: str) -> tuple[str, Counter[str]]:
        left: str = interleaved.ungarbled(pa.array([text]))[0].as_py()
        return left, Counter(characters=len(text) - len(left))


class Blur(Strict):
    """Whatever the detector (an ONNX file, see `models.detector`) finds in a picture is made unrecognisable.

    New pictures are kept as PNG; one without a find keeps its file. Videos and single frames of them stay as they are.
    """

    model: str
    min_score: float = Field(default=0.5, gt=0, lt=1)

    @model_validator(mode="after")
    def _has_model(self) -> Self:
        detector.require(self.model)
        return self

    def find(self, pixels: detector.Pixels) -> detector.Boxes:
        return detector.detect(pixels, self.model, self.min_score)


Rewrite = MaskPii | Ungarble | Blur
Rewrites = Sequence[tuple[str, Rewrite]]
# The recipe's names for rewrites: one line each.
REWRITES: Mapping[str, type[Rewrite]] = {
    "mask_pii": MaskPii,
    "ungarble": Ungarble,
    "blur_faces": Blur,
    "blur_plates": Blur,
}
NOTE = pa.struct([("rewrite", pa.string()), ("what", pa.string()), ("count", pa.int64())])
REWRITTEN_SCHEMA = pa.schema([("id", pa.string()), ("parent", pa.string()), ("notes", pa.list_(NOTE))])


class Note(NamedTuple):
    """In this row of a part so many of something were changed: 2 `email`, 3 `places` of pictures, 1 `characters`."""

    row: int
    what: str
    num: int


def build(specs: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[tuple[str, Rewrite]]:
    """The recipe's list as (name, rewrite). Unknown names are refused by `curate.check`."""
    return [(name, REWRITES[name](**fields)) for spec in specs for name, fields in spec.items()]


def run_rewrites(this: Curation, corpus: Corpus, read: StepResult) -> StepResult:
    """The step that rewrites a corpus: what was read itself where the recipe names no rewrite.

    On Spark where words alone change, on Ray where pictures are opened.
    """
    if not corpus.rewrites:
        return read
    rewrites = build(corpus.rewrites)
    blurs = [rule for _, rule in rewrites if isinstance(rule, Blur)]

    def run(folder: Path) -> Counts:
        samples = read.table("samples")
        work = functools.partial(rewrite_partition, rewrites=rewrites, samples=samples, store=this.store)
        parts = tables.parts(samples)
        this.over_parts(f"rewrite {corpus.corpus}", work, parts, folder, "ray" if blurs else "spark", DETECTOR)
        return row_counts(folder, "samples", "rewritten")

    return this.run.step(
        f"rewrite.{corpus.corpus}",
        config=corpus.rewrites,
        inputs=[read, *(_digest(rule.model) for rule in blurs)],
        code=("data_engine.rewrites",),
        build=run,
    )


def _digest(model: str) -> str:
    return xxhash.xxh3_128_hexdigest(Path(model).expanduser().read_bytes())


def rewrite_partition(units: pa.Table, *, rewrites: Rewrites, samples: Path, store: Path) -> dict[str, pa.Table]:
    """A part of the samples to the same part, rewritten, and `rewritten`: a row for each sample that changed."""
    return rewrite(pq.read_table(samples / units["part"][0].as_py()), rewrites, MediaStore(store))


def rewrite(samples: pa.Table, rewrites: Rewrites, store: MediaStore) -> dict[str, pa.Table]:
    """As `rewrite_partition`, of a table (sample.SCHEMA)."""
    before, notes = samples["id"].combine_chunks(), []
    for name, rule in rewrites:
        samples, found = _blurred(samples, rule, store) if isinstance(rule, Blur) else _cleaned(samples, rule)
        notes += [(note.row, {"rewrite": name, "what": note.what, "count": note.num}) for note in found]
    changed = pc.fill_null(pc.not_equal(samples["id"], before), False).combine_chunks()
    samples = _with_parents(samples, before, changed)
    notes.sort(key=lambda note: note[0])
    told = grouped(pa.array([note for _, note in notes], NOTE), np.array([row for row, _ in notes], int), len(before))
    columns = [samples["id"].combine_chunks().filter(changed), before.filter(changed), told.filter(changed)]
    return {"samples": samples, "rewritten": pa.table(columns, schema=REWRITTEN_SCHEMA)}


def _with_parents(samples: pa.Table, before: pa.Array, changed: pa.Array) -> pa.Table:
    """The samples, those that changed with what they were as their only parent, however many rewrites it took."""
    alone = grouped(before, np.arange(len(before)), len(before))
    place = np.arange(len(before)) + np.where(changed.to_numpy(zero_copy_only=False), len(before), 0)
    parents = pa.concat_arrays([samples["parents"].combine_chunks(), alone]).take(pa.array(place))
    return samples.set_column(samples.schema.get_field_index("parents"), samples_.SCHEMA.field("parents"), parents)


def _cleaned(samples: pa.Table, rule: MaskPii | Ungarble) -> tuple[pa.Table, list[Note]]:
    """Only samples with a text in which `suspects` (RE2) occurs are looked at one by one."""
    turns = samples["messages"].combine_chunks()
    parts = turns.flatten().field("parts")
    hits = pii.suspect(parts.flatten().field("text"), rule.suspects)
    rows = np.unique(owners(turns)[owners(parts)][hits])
    new, notes = [], []
    for row, sample in zip(rows.tolist(), _taken(samples, rows), strict=True):
        counts: Counter[str] = Counter()
        new.append(_with_clean_texts(sample, rule, counts))
        notes += [Note(row, what, count) for what, count in counts.items() if count]
    return _put_back(samples, rows, new), notes


def _with_clean_texts(sample: Sample, rule: MaskPii | Ungarble, counts: Counter[str]) -> Sample:
    def clean(text: str) -> str:
        cleaned, found = rule.clean(text)
        counts.update(found)
        return cleaned

    messages = tuple(
        Message(
            message.role,
            tuple(dataclasses.replace(part, text=clean(part.text)) if part.text else part for part in message.parts),
        )
        for message in sample.messages
    )
    return sample if messages == sample.messages else dataclasses.replace(sample, messages=messages, id="")


def _blurred(samples: pa.Table, rule: Blur, store: MediaStore) -> tuple[pa.Table, list[Note]]:
    """Every distinct picture of the part is looked at once."""
    media = samples["media"].combine_chunks()
    items = media.flatten()
    still = pc.and_(pc.equal(items.field("kind"), "image"), pc.is_null(items.field("start")))
    keys = pc.unique(items.field("key").filter(still)).to_pylist()
    found = {key: made for key in keys if (made := _blur(key, rule, store)) is not None}
    concerned = pc.and_(still, pc.is_in(items.field("key"), value_set=pa.array(list(found), pa.string())))
    rows = np.unique(owners(media)[concerned.to_numpy(zero_copy_only=False)])
    new, notes = [], []
    for row, sample in zip(rows.tolist(), _taken(samples, rows), strict=True):
        shown = {item.key for item in sample.media if _is_still(item)} & set(found)
        notes.append(Note(row, "places", sum(found[key][1] for key in shown)))
        items_ = [dataclasses.replace(m, key=found[m.key][0]) if _is_still(m) and m.key in found else m
                  for m in sample.media]  # fmt: skip
        new.append(dataclasses.replace(sample, media=tuple(items_), id=""))
    return _put_back(samples, rows, new), notes


def _is_still(item: Media) -> bool:
    return item.kind == "image" and item.start is None


def _blur(key: str, rule: Blur, store: MediaStore) -> tuple[str, int] | None:
    """The key of the blurred picture, and in how many places; None where nothing is found or it does not open."""
    pixels = open_image(key, store)
    boxes = rule.find(pixels) if pixels is not None else np.empty((0, 4), np.int64)
    if pixels is None or not len(boxes):
        return None
    buffer = io.BytesIO()
    Image.fromarray(unrecognisable(pixels, boxes)).save(buffer, "PNG")
    return store.put_bytes(buffer.getvalue(), ".png"), len(boxes)


def _taken(samples: pa.Table, rows: "np.ndarray[Any, Any]") -> Iterator[Sample]:
    return iter(samples_.from_table(samples.take(pa.array(rows))))


def _put_back(samples: pa.Table, rows: "np.ndarray[Any, Any]", new: Sequence[Sample]) -> pa.Table:
    """The samples with those of `rows` replaced."""
    if not len(rows):
        return samples
    place = np.arange(len(samples))
    place[rows] = len(samples) + np.arange(len(rows))
    made = samples_.to_table(new)
    return pa.concat_tables([samples.select(made.column_names), made]).take(pa.array(place)).combine_chunks()


def clean_reading(text: str, rewrites: Rewrites) -> tuple[str, list[dict[str, Any]]]:
    """What OCR read, as the rewrites of words leave it, and the notes on it."""
    notes = []
    for name, rule in rewrites:
        if not isinstance(rule, Blur):
            text, counts = rule.clean(text)
            notes += [{"rewrite": name, "what": what, "count": n} for what, n in counts.items() if n]
    return text, notes


def told(notes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The notes on a sample as lines of its story, one for each rewrite."""
    lines = []
    for name in dict.fromkeys(note["rewrite"] for note in notes):
        counts = Counter[str]()
        for note in notes:
            if note["rewrite"] == name:
                counts[note["what"]] += note["count"]
        verb = {"mask_pii": "masked", "ungarble": "taken out"}.get(name, "blurred")
        reason = f"{verb}: {', '.join(f'{count} {what}' for what, count in counts.items())}"
        line = {"operator": name, "verdict": "rewrite", "reason": reason, "measures": dict(counts), "settings": {}}
        lines.append(line)
    return lines
