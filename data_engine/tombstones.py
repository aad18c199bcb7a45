"""What was removed must not come back: `DIR/tombstones.jsonl` names removed samples by hashes, never by content.

A rebuilt sample is known again by its id, by its content key (the same pictures with the same words), by a medium
that was removed with it, or by its origin or address where that was what the removal asked for.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_engine.describe import grouped, owners

FILE = "tombstones.jsonl"
Tombstone = dict[str, Any]


def hashed(text: str) -> str:
    """An origin or address as a tombstone holds it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read(folders: Iterable[Path]) -> list[Tombstone]:
    """The tombstones of these run folders (a run and those it names in `against`); none where there is no file.

    Each has `id`, `content_key` (hex or null), `media` (keys), `origin` (SHA-256 or null), `reason` and `time`.
    """
    files = [folder / FILE for folder in folders]
    return [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]


def merged(folder: Path, fresh: Sequence[Tombstone]) -> bytes:
    """The folder's tombstones with new ones, the later of two for one sample: what its file is to hold."""
    by_id = {tomb["id"]: tomb for tomb in [*read([folder]), *fresh]}
    return "".join(json.dumps(tomb, ensure_ascii=False) + "\n" for tomb in by_id.values()).encode()


def tombstoned(rows: pa.Table, tombstones: Sequence[Tombstone]) -> pa.Array:
    """Per row of samples or measures why it may not come back, null where nothing is known against it.

    Looks at those of the columns `id`, `content_key`, `origin`, `media_keys` and `media` that are there.
    """
    found = pa.nulls(len(rows), pa.string())
    for column, key in (("id", _plain), ("content_key", bytes.hex), ("origin", hashed)):
        if column in rows.column_names:
            found = pc.coalesce(found, _reasons(_flat(rows[column]), key, _known(tombstones, column)))
    keys = _media_keys(rows)
    if keys is not None:
        found = pc.coalesce(found, _first_of_lists(keys, _known(tombstones, "media")))
    return found


def _plain(value: str) -> str:
    return value


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()


def _known(tombstones: Sequence[Tombstone], name: str) -> dict[str, str]:
    """The hashes of one kind, with the reason each is gone for."""
    return {value: tomb["reason"] for tomb in tombstones for value in _values(tomb.get(name))}


def _values(found: Any) -> Iterator[str]:
    yield from [found] if isinstance(found, str) else found or ()


def _reasons(values: pa.Array, key: Any, known: Mapping[str, str]) -> pa.Array:
    """The reason of every value whose `key` is known. Distinct values are looked up once."""
    distinct = pc.unique(values)
    told = [None if value is None else known.get(key(value)) for value in distinct.to_pylist()] if known else []
    reasons = pa.array(told or [None] * len(distinct), pa.string())
    return reasons.take(pc.index_in(values, value_set=distinct))


def _media_keys(rows: pa.Table) -> pa.Array | None:
    if "media_keys" in rows.column_names:
        return _flat(rows["media_keys"])
    if "media" not in rows.column_names:
        return None
    media = _flat(rows["media"])
    return grouped(media.flatten().field("key"), owners(media), len(media))


def _first_of_lists(lists: pa.Array, known: Mapping[str, str]) -> pa.Array:
    """Per list the first reason that any of its elements has."""
    found = _reasons(lists.flatten(), _plain, known)
    first: dict[int, str] = {}
    for row, reason in zip(owners(lists).tolist(), found.to_pylist(), strict=True):
        if reason is not None:
            first.setdefault(row, reason)
    return pa.array([first.get(row) for row in range(len(lists))], pa.string())
