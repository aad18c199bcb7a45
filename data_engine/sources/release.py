"""The kept samples of an earlier run, `DIR/release/<corpus>`: what filters left, for makers and teachers to work on.

A sample keeps its messages, task, modality, rights, origin, group and parents; its licence is joined by the source's
own where that differs. Media come from the earlier run's store and keep their keys.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_engine import sample as samples
from data_engine import tables
from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Sample
from data_engine.sources import records
from data_engine.sources.common import Quarantined, RecordError, bring, folder_of, parse_options, quarantining, store_at
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
    held = MediaStore(store_at(parse_options(ReleaseOptions, source.options, "release").media))
    for where, row in records.rows(root, unit, samples.SCHEMA.names):
        if isinstance(row, RecordError):
            yield row.at(corpus, where)
            continue
        try:
            yield _sample(row, corpus, source, held, store)
        except RecordError as error:
            yield error.at(corpus, where)


def _sample(row: dict[str, Any], corpus: str, source: Source, held: MediaStore, store: MediaStore) -> Sample:
    """Raises RecordError."""
    try:
        old = samples.from_row(row)
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError("id", f"not a row of a release: {error}") from error
    for item in old.media:
        bring(item.key, held, store)
    return dataclasses.replace(
        old,
        corpus=corpus,
        source=source.path,
        licence=_with(old.licence, source.licence),
        attribution=_with(old.attribution, source.attribution),
    )


def _with(old: str, new: str) -> str:
    return ", ".join(dict.fromkeys(name for name in (old, new) if name))
