"""The kept samples of an earlier run, `DIR/release/<corpus>`: what filters left, for makers and teachers to work on.

A sample keeps its messages, task, modality, rights, origin, group and parents; its licence is joined by the source's
own where that differs. Media come from the earlier run's store and keep their keys.
"""

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_engine import sample as samples
from data_engine import tables
from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Sample
from data_engine.sources import records, runs
from data_engine.sources.common import Quarantined, folder_of, joined, parse_options, quarantining
from strict_yaml import Strict


class ReleaseOptions(Strict):
    """`media`: the media store (a folder, or an address of an object store) of the run whose release it is.

    A relative one is relative to where the command is given.
    """

    media: str


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """Row groups of the release's parts; parts of which nothing was kept are no fault. Raises RecipeError."""
    parse_options(ReleaseOptions, options, "release")
    return [
        unit for unit in records.units(root, 1 << 19) if not _is_empty(folder_of(root) / unit.partition("#group=")[0])
    ]


def _is_empty(path: Path) -> bool:
    """Whether a part has no rows; a damaged one is met when it is read."""
    try:
        return path.suffix == ".parquet" and tables.num_rows(path) == 0
    except (pa.ArrowException, OSError):
        return False


@quarantining
def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """A sample per row; rows that are no samples, or whose media are not there, are quarantined."""
    held = runs.store_at(parse_options(ReleaseOptions, source.options, "release").media)
    make = partial(_sample, corpus=corpus, source=source, held=held, store=store)
    return runs.read_rows(root, unit, samples.SCHEMA.names, corpus, make)


def _sample(row: dict[str, Any], corpus: str, source: Source, held: MediaStore, store: MediaStore) -> Sample:
    """Raises RecordError."""
    old = runs.sample_of(row, "release", held, store)
    return dataclasses.replace(
        old,
        corpus=corpus,
        source=source.path,
        licence=joined(old.licence, source.licence),
        attribution=joined(old.attribution, source.attribution),
    )
