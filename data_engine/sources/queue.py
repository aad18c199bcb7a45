"""A queue of an earlier run (`DIR/queues/recaption`), to be told anew.

A parquet row is a whole sample (see `data_engine.queues`). Where another job has filled its `caption`, that takes the
place of the last answer, and a row without one is quarantined; with `captioned: false` the rows are read as they were,
for the recipe's own makers (`make: [captions: ...]`). Its parent is what it was; task, modality, origin and group stay
its own. The captions' licence is the source's, added to the row's own. Pictures come from the `media` store of the run
that wrote the queue, and keep their keys.
"""

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from data_engine import sample as samples
from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Sample, told_anew
from data_engine.sources import records, runs
from data_engine.sources.common import (
    Quarantined,
    RecordError,
    clean_text,
    joined,
    parse_options,
    quarantining,
)
from strict_yaml import Strict

COLUMNS = (*samples.SCHEMA.names, "caption")


class QueueOptions(Strict):
    """`media`: the media store (a folder, or an address of an object store) of the run that wrote the queue.

    A relative one is relative to where the command is given. `captioned`: whether the captions are there.
    """

    media: str
    captioned: bool = True


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """Row groups of the queue's parts. Raises RecipeError."""
    parse_options(QueueOptions, options, "queue")
    return records.units(root, 1 << 19)


@quarantining
def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """A sample per row; rows without a caption, or whose pictures are not there, are quarantined."""
    options = parse_options(QueueOptions, source.options, "queue")
    held = runs.store_at(options.media)
    make = partial(_sample, corpus=corpus, source=source, held=held, store=store, captioned=options.captioned)
    return runs.read_rows(root, unit, COLUMNS, corpus, make)


def _sample(
    row: dict[str, Any], corpus: str, source: Source, held: MediaStore, store: MediaStore, *, captioned: bool
) -> Sample:
    """Raises RecordError."""
    if captioned and row.get("caption") is None:
        raise RecordError("caption", "not filled: the job that writes captions has not come to this row")
    caption = clean_text(row["caption"], "caption") if captioned else ""
    old = runs.sample_of(row, "queue", held, store)
    return dataclasses.replace(
        old,
        corpus=corpus,
        messages=told_anew(old, caption) if captioned else old.messages,
        licence=joined(old.licence, source.licence),
        attribution=joined(old.attribution, source.attribution),
        parents=(old.id,) if captioned else old.parents,
        trials=(),
        id="",
    )
