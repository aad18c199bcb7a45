"""What operators see: a table of samples joined with what is known of their media and with OCR readings.

Work is done on whole columns; only the folding of letters for `content_key` goes row by row.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from data_engine import tables
from data_engine.seen_clips import seen_clips
from data_engine.words import MULTIPLIER, mix, text_buffers

Ints = npt.NDArray[np.int64]

PICTURE = pa.struct(
    [("key", pa.string()), ("kind", pa.string()), ("format", pa.string()), ("width", pa.int32())]
    + [("height", pa.int32()), ("phash", pa.uint64()), ("entropy", pa.float64()), ("sharpness", pa.float64())]
    + [("luma", pa.float64()), ("motion", pa.float64()), ("duration", pa.float64()), ("frames", pa.int32())]
)
FIRST_MEDIUM = ("width", "height", "duration", "phash", "entropy", "sharpness", "luma", "motion")
READINGS = pa.schema(
    [("ocr_text", pa.string()), ("ocr_score", pa.float64()), ("ocr_lines", pa.int32())]
    + [("ocr_boxes", pa.list_(pa.list_(pa.float64())))]
)
SPOKEN = pa.array(["assistant", "document"])


def describe(samples: pa.Table, probe: Path, readings: Path | None = None) -> pa.Table:
    """The samples with text, target, media_keys, pictures, bad_media, content_key, OCR and first-medium columns.

    `probe` is the folder of the probe step (tables `media` and `bad`), `readings` the table of OCR readings.
    """
    owner, keys = distinct_media(samples["media"])
    known, bad = _shown(probe, keys)
    found = pc.index_in(keys, value_set=known["key"].combine_chunks())
    turns = Turns(samples["messages"])
    columns = {
        "text": turns.joined(),
        "target": turns.joined(SPOKEN),
        "media_keys": grouped(keys, owner, len(samples)),
        "pictures": grouped(_struct(known).take(found), owner, len(samples)),
        "media_phash": grouped(known["phash"].take(found), owner, len(samples)),
        "bad_media": _first_reason(owner, keys, bad, len(samples)),
    }
    columns["content_key"] = content_keys(samples, columns["text"], owner, known["pixel_hash"].take(found))
    columns |= _first_medium(owner, found, known, len(samples))
    shown = seen_clips(samples["media"], probe / "frames")
    columns |= {name: pc.coalesce(shown.pop(name), columns[name]) for name in ("duration", "luma", "motion")} | shown
    columns |= _readings(samples["id"], readings)
    for name, column in columns.items():
        samples = samples.append_column(name, column)
    return samples


class Turns:
    """The messages of a table of samples, flat: `row` of the sample, `role` and `text` of every turn."""

    def __init__(self, messages: pa.ChunkedArray) -> None:
        self.num_rows = len(messages)
        self.row = owners(messages)
        turns = messages.combine_chunks().flatten()
        self.role = turns.field("role")
        parts = turns.field("parts")
        words = pc.fill_null(parts.flatten().field("text"), "")
        self.text = pc.binary_join(grouped(words, owners(parts), len(parts)), "")

    def joined(self, roles: pa.Array | None = None) -> pa.Array:
        """Per sample its non-empty turns, of these roles (default: all), joined by newlines."""
        wanted = pc.greater(pc.binary_length(self.text), 0)
        if roles is not None:
            wanted = pc.and_(wanted, pc.is_in(self.role, value_set=roles))
        chosen = grouped(self.text.filter(wanted), self.row[wanted.to_numpy(zero_copy_only=False)], self.num_rows)
        return pc.binary_join(chosen, "\n")


def owners(lists: pa.Array | pa.ChunkedArray) -> Ints:
    """For every element of the flattened lists the row it is of."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)


def grouped(values: pa.Array, owner: Ints, num_rows: int) -> pa.ListArray:
    """Values in rising order of their owner, as one list per row."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=num_rows))]).astype(np.int32)
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def distinct_media(media: pa.ChunkedArray) -> tuple[Ints, pa.Array]:
    """(row, key) of every medium a sample shows, each once, in order of appearance."""
    owner, keys = owners(media), media.combine_chunks().flatten().field("key")
    codes = pc.dictionary_encode(keys).indices.to_numpy(zero_copy_only=False).astype(np.int64)
    _, first = np.unique(owner * (len(keys) + 1) + codes, return_index=True)
    first.sort()
    return owner[first], keys.take(pa.array(first))


def first_shown(row: Ints, shown: Ints) -> Ints:
    """Places of the references (row of the sample, medium) that show a medium of their row for the first time."""
    lowest = shown.min(initial=0)
    span = shown.max(initial=0) - lowest + 1
    _, first = np.unique(row * span + (shown - lowest), return_index=True)
    return np.sort(first)


def _shown(probe: Path, keys: pa.Array) -> tuple[pa.Table, pa.Table]:
    """The rows of the probe's tables `media` and `bad` that are of these keys: a partition shows few of all media."""
    wanted = pc.unique(keys)
    media, bad = (_find(table, wanted) for table in _media(probe))
    return media, bad


@dataclass(frozen=True, slots=True)
class _ByKey:
    """A table and, in rising order, the hashes of its keys with the row of each."""

    table: pa.Table
    hashes: npt.NDArray[np.uint64]
    row: Ints


def _find(known: _ByKey, wanted: pa.Array) -> pa.Table:
    hashes = _key_hashes(wanted)
    place = np.searchsorted(known.hashes, hashes)
    hit = np.append(known.hashes, 0)[place] == hashes
    hit &= place < len(known.hashes)
    found = known.table.take(pa.array(known.row[place[hit]]))
    assert found["key"].combine_chunks().equals(wanted.filter(pa.array(hit))), "two media keys of one 64-bit hash"
    return found


@functools.lru_cache(maxsize=4)
def _media(probe: Path) -> tuple[_ByKey, _ByKey]:
    """The probe's tables `media` and `bad`, kept for the partitions that follow in this process."""
    found = []
    for name in ("media", "bad"):
        table = tables.read(probe / name)
        hashes = _key_hashes(table["key"])
        order = np.argsort(hashes, kind="stable")
        found.append(_ByKey(table, hashes[order], order))
    return found[0], found[1]


def _key_hashes(keys: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    data, offsets = text_buffers(keys)
    hashes: npt.NDArray[np.uint64] = _hash_each(data, offsets)
    return hashes


@numba.njit(cache=True)
def _hash_each(data, offsets):  # type: ignore[no-untyped-def]
    result = np.empty(len(offsets) - 1, np.uint64)
    for text in range(len(offsets) - 1):
        state = np.uint64(0)
        for at in range(offsets[text], offsets[text + 1]):
            state = mix(state * MULTIPLIER + np.uint64(data[at]) + np.uint64(1))
        result[text] = state
    return result


def _struct(known: pa.Table) -> pa.StructArray:
    columns = [known[field.name].combine_chunks().cast(field.type) for field in PICTURE]
    return pa.StructArray.from_arrays(columns, fields=list(PICTURE))


def _first_reason(owner: Ints, keys: pa.Array, bad: pa.Table, num_rows: int) -> pa.Array:
    """Per row why its first unusable medium is so, null where all can be used."""
    place = pc.index_in(keys, value_set=bad["key"].combine_chunks())
    at = np.flatnonzero(pc.is_valid(place).to_numpy(zero_copy_only=False))
    return _spread(owner[at], bad["reason"].take(place.take(pa.array(at))), num_rows)


def _first_medium(owner: Ints, found: pa.Array, known: pa.Table, num_rows: int) -> dict[str, pa.Array]:
    """The measures of each row's first usable medium, as columns."""
    at = np.flatnonzero(pc.is_valid(found).to_numpy(zero_copy_only=False))
    rows = known.take(found.take(pa.array(at)))
    types = {"phash": pa.uint64()}
    return {name: _spread(owner[at], rows[name], num_rows).cast(types.get(name, pa.float64())) for name in FIRST_MEDIUM}


def _spread(owner: Ints, values: pa.ChunkedArray, num_rows: int) -> pa.Array:
    """Per row the first of its values, null where it has none."""
    rows, first = np.unique(owner, return_index=True)
    place = np.full(num_rows, -1)
    place[rows] = first
    return values.combine_chunks().take(pa.array(place, mask=place < 0))


def _readings(ids: pa.ChunkedArray, folder: Path | None) -> dict[str, pa.Array]:
    read = _all_readings(folder) if folder else None
    if read is None:
        return {field.name: pa.nulls(len(ids), field.type) for field in READINGS}
    place = pc.index_in(ids, value_set=read["id"].combine_chunks())
    return {field.name: read[field.name].take(place).cast(field.type) for field in READINGS}


@functools.lru_cache(maxsize=2)
def _all_readings(folder: Path) -> pa.Table | None:
    return tables.read(folder) if tables.parts(folder) else None


def content_keys(samples: pa.Table, text: pa.Array, owner: Ints, pixel_hashes: pa.ChunkedArray) -> pa.Array:
    """128-bit keys, equal for samples of one task that show the same pictures with the same words.

    Whatever the file formats: pictures count by their pixels, spans of videos as they are. Words are compared
    without case and with white space folded.
    """
    seen = _pictures_shown(samples["media"], owner, pixel_hashes)
    keys = []
    for row, (task, words) in enumerate(zip(samples["task"].to_pylist(), text.to_pylist(), strict=True)):
        folded = " ".join(words.casefold().split())
        keys.append(xxhash.xxh128_digest(f"{task}\0{folded}\0{seen.get(row, '')}".encode()))
    return pa.array(keys, pa.binary(16))


def _pictures_shown(media: pa.ChunkedArray, owner: Ints, pixel_hashes: pa.ChunkedArray) -> dict[int, str]:
    """Per row with media: the hashes of its pictures and the spans of its videos, as text."""
    shown: dict[int, str] = {}
    for row, value in zip(owner.tolist(), pixel_hashes.to_pylist(), strict=True):
        shown[row] = f"{shown.get(row, '')}{value},"
    flat = media.combine_chunks().flatten()
    spans = zip(owners(media).tolist(), flat.field("start").to_pylist(), flat.field("end").to_pylist(), strict=True)
    for row, start, end in spans:
        if start is not None or end is not None:
            shown[row] += f"{start}-{end};"
    return shown
