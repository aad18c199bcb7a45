"""Faults of one shard: its tar, held against the JSON in it, its own index, its split's and the manifest.

Each fault is told once, where it is: an index that is wrong does not make the tar wrong, and what is lost with the end
of a cut file is not missed again sample by sample.
"""

import mmap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from data_engine import shard_index, shards
from data_engine.shard_index import Index
from data_engine.shard_scan import Group, Member, Range, Scan, scan
from data_engine.tar_blocks import END

Fault = Literal[
    "unordered keys",
    "duplicate key",
    "half sample",
    "bad checksum",
    "missing member",
    "foreign member",
    "index drift",
    "truncated",
    "missing file",
    "unlisted file",
]
AGAIN = "delete the step's folder and run `keyeforge data shard` again"
FIX: dict[Fault, str] = {
    "unordered keys": f"readers that seek by key go wrong: {AGAIN}",
    "duplicate key": f"energon refuses such a data set: {AGAIN}",
    "half sample": f"readers of tars make two samples of it: {AGAIN}",
    "bad checksum": f"its bytes changed since they were written: copy the shard again, or {AGAIN}",
    "missing member": AGAIN,
    "foreign member": AGAIN,
    "index drift": f"an index is of other bytes: copy shards and indexes from one run, or {AGAIN}",
    "truncated": f"copy the shard again, or {AGAIN}",
    "missing file": f"copy it again, or {AGAIN}",
    "unlisted file": "no reader of the manifest sees it: delete it",
}
Row = Mapping[str, Any]

_SAID = {"id", "corpus", "modality", "task"}
_UNSAID = ("visual_tokens", "squared_patches")
_COUNTED = ("tokens", "pictures", "offset", "size", "xxh3", *_UNSAID)  # in both indexes under the same name


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault. `key`: of the sample, empty where it is the file's; `what`: the fault in words."""

    file: str
    key: str
    fault: Fault
    what: str

    @property
    def fix(self) -> str:
        return FIX[self.fault]

    def __str__(self) -> str:
        where = f"{self.file}: {self.key}" if self.key else self.file
        return f"{where}: {self.fault}: {self.what}; {self.fix}"


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard to look at: its tar, and what the manifest says of it. Split indexes that cannot be read are `untold`."""

    tar: Path
    split: str
    entry: Mapping[str, Any]
    preset: str
    untold: bool


def lint_shard(shard: Shard, *, quick: bool = False) -> list[Finding]:
    """The faults of one shard, its index, and the rows that its split's index has of it."""
    rows, found = _own_index(shard)
    split = None if shard.untold else _split_rows(shard)
    if quick:
        compared = split if rows else None
        return found + _sizes(shard, rows) + _of_split(shard, rows, compared, {row["key"]: row for row in rows})
    with shard.tar.open("rb") as file:
        size = shard.tar.stat().st_size
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")
    ranges = {Range(row["offset"], row["size"], row["xxh3"]) for row in (*rows, *(split or ()))}
    seen = scan(content, ranges, {(row["offset"], row["size"]): row["key"] for row in rows})
    return found + _of_tar(shard, seen, rows or split or ()) + _of_indexes(shard, seen, rows, split)


def _own_index(shard: Shard) -> tuple[list[dict[str, Any]], list[Finding]]:
    path = shards.index_of(shard.tar)
    try:
        return pq.read_table(path, columns=shards.INDEX_SCHEMA.names).to_pylist(), []
    except FileNotFoundError:
        return [], []  # told of the folder
    except (pa.ArrowException, OSError) as error:
        return [], [_differs(path.name, f"cannot be read ({type(error).__name__}: {error})")]


def _split_rows(shard: Shard) -> list[dict[str, Any]]:
    """What the split's index says of the shard, in the names of the shard's own."""
    index = shard_index.read(shard_index.path_of(shard.tar.parent, shard.split))
    mine = np.flatnonzero(index.shard == index.shards.index(shard.tar.name))
    columns = [getattr(index, name)[mine].tolist() for name in _COUNTED]
    return [
        {**_named(index, number), **dict(zip(_COUNTED, values, strict=True))}
        for number, *values in zip(mine.tolist(), *columns, strict=True)
    ]


def _named(index: Index, number: int) -> dict[str, str]:
    source = index.sources[index.source[number]]
    return {"id": index.id(number), "corpus": source.corpus, "modality": source.modality}


def _sizes(shard: Shard, rows: Sequence[Row]) -> list[Finding]:
    """What the lengths of the files alone tell."""
    name, size, told = shard.tar.name, shard.tar.stat().st_size, shard.entry["bytes"]
    if size < told:
        return [Finding(name, "", "truncated", f"{size:,} bytes, the manifest says {told:,}")]
    found = [] if size == told else [_differs(name, f"{size:,} bytes, the manifest says {told:,}")]
    if not rows:
        return found
    if len(rows) != shard.entry["samples"]:
        found.append(_manifest_count(shard, len(rows)))
    ends = [0, *(row["offset"] + row["size"] for row in rows)]
    gap = next((place for place, row in enumerate(rows) if row["offset"] != ends[place]), None)
    if gap is not None:
        what = f"offset {rows[gap]['offset']:,}, the sample before ends at {ends[gap]:,}"
        found.append(_differs(shards.index_of(shard.tar).name, what, rows[gap]["key"]))
    elif size == told != ends[-1] + len(END):
        found.append(_differs(name, f"its index ends at {ends[-1]:,}, the tar at {size - len(END):,}"))
    return found


def _differs(file: str, what: str, key: str = "") -> Finding:
    return Finding(file, key, "index drift", what)


def _manifest_count(shard: Shard, count: int) -> Finding:
    return _differs("manifest.json", f"{shard.tar.name}: {shard.entry['samples']} samples, there are {count}")


def _of_tar(shard: Shard, seen: Scan, told: Sequence[Row]) -> list[Finding]:
    """The faults of the tar itself, and of what the manifest says of it."""
    name, found = shard.tar.name, list[Finding]()
    size = shard.tar.stat().st_size
    if seen.broken_at is not None:
        lost = sum(row["offset"] + row["size"] > seen.broken_at for row in told)
        what = f"cannot be read from byte {seen.broken_at:,} of {size:,} on; {lost} samples are lost"
        found.append(Finding(name, "", "truncated", what))
    elif size != shard.entry["bytes"]:
        found.append(_differs("manifest.json", f"{name}: {shard.entry['bytes']:,} bytes, there are {size:,}"))
    runs: dict[str, list[Group]] = defaultdict(list)
    highest = ""
    for group in seen.groups:
        if group.key < highest and group.key not in runs:
            found.append(Finding(name, group.key, "unordered keys", f"comes after {highest}"))
        highest = max(highest, group.key)
        runs[group.key].append(group)
    if seen.broken_at is None and len(runs) != shard.entry["samples"]:
        found.append(_manifest_count(shard, len(runs)))
    for key, groups in runs.items():
        found += [Finding(name, key, fault, what) for fault, what in _of_sample(groups)]
    return found


def _of_sample(groups: Sequence[Group]) -> Iterator[tuple[Fault, str]]:
    """The faults of one key."""
    if not all(group.intact for group in groups):
        yield "bad checksum", "its bytes are not those that were written"
        return
    if len(groups) > 1:
        places = ", ".join(f"{group.offset:,}" for group in groups)
        yield "half sample", f"its members are not together: at bytes {places}"
    every = [member for group in groups for member in group.members]
    members = {member.suffix: member for member in every}
    if len(members) < len(every):
        yield "foreign member", f"{len(every)} members, of which some have the same name"
    document = _document(members)
    if document is None:
        what = "its JSON is not that of a sample" if "json" in members else f"no JSON to its {len(members)} members"
        yield "half sample", what
        return
    stray = {suffix: suffix.partition(".")[0] for suffix in members if suffix != "json"}
    for number, about in enumerate(document["shown"]):
        mine = {suffix for suffix, first in stray.items() if first == str(number)}
        wanted = _wanted(number, about, mine)
        yield from (("missing member", f"no {suffix}") for suffix in sorted(wanted - mine))
        stray = {suffix: first for suffix, first in stray.items() if suffix not in wanted}
    yield from (("foreign member", f"{suffix} is none of its media") for suffix in sorted(stray))


def _wanted(number: int, about: Mapping[str, Any], mine: Iterable[str]) -> set[str]:
    """The members that a medium should have; of an image the first there is."""
    if about["kind"] == "video":
        return {f"{number}.{frame:03d}.jpg" for frame in range(_pictures(about))}
    return {min((suffix for suffix in mine if suffix in {f"{number}.jpg", f"{number}.png"}), default=f"{number}.jpg")}


def _document(members: Mapping[str, Member]) -> dict[str, Any] | None:
    """The JSON of a sample, None where there is none that could be of a sample."""
    if "json" not in members:
        return None
    try:
        document: dict[str, Any] = orjson.loads(members["json"].data)
        sum(map(_pictures, document["shown"]))  # raises for what is no medium
        sound = document.keys() >= _SAID and isinstance(document["tokens"], dict)
        return document if sound else None
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None


def _pictures(about: Mapping[str, Any]) -> int:
    """Frames of a clip, or the one picture of an image."""
    return len(about["times"]) if about["kind"] == "video" else 1


def _of_indexes(shard: Shard, seen: Scan, rows: Sequence[Row], split: Sequence[Row] | None) -> list[Finding]:
    """Where the shard's index, and the rows of its split's, differ from what the tar holds."""
    truth, cut = _truth(seen, shard.preset), seen.broken_at is not None
    found: list[Finding] = []
    if rows:
        index = shards.index_of(shard.tar).name
        found += _absent(index, [row["key"] for row in rows], truth, cut=cut)
        found += _drift(index, [(row["key"], row) for row in rows], truth)
    # What the tar itself does not say: there both indexes must be at one.
    beside = {row["key"]: {name: row[name] for name in _UNSAID} for row in rows}
    return found + _of_split(
        shard, rows, split, {key: told | beside.get(key, {}) for key, told in truth.items()}, cut=cut
    )


def _truth(seen: Scan, preset: str) -> dict[str, dict[str, Any]]:
    """What the tar tells of each of its samples, by key; little of a damaged one, nothing of one in pieces."""
    truth: dict[str, dict[str, Any]] = {}
    for group in seen.groups:
        told = {"offset": group.offset, "size": group.size}
        if group.intact:
            told |= {"xxh3": group.xxh3, **_said({member.suffix: member for member in group.members}, preset)}
        truth[group.key] = {} if group.key in truth else told
    return truth


def _said(members: Mapping[str, Member], preset: str) -> dict[str, Any]:
    """The columns of an index that a sample's JSON bears out."""
    document = _document(members)
    if document is None:
        return {}
    said = {name: document[name] for name in _SAID} | {"pictures": sum(map(_pictures, document["shown"]))}
    return said | ({"tokens": document["tokens"][preset]} if preset in document["tokens"] else {})


def _absent(file: str, keys: Sequence[str], truth: Mapping[str, Any], *, cut: bool) -> Iterator[Finding]:
    """Samples that only the index has, or only the tar."""
    known = set(keys)
    for wanting, what in (
        ([] if cut else [key for key in keys if key not in truth], "is not in the tar"),
        ([key for key in truth if key not in known], "is in the tar only"),
    ):
        if wanting:
            yield _differs(file, what + _more(wanting), wanting[0])


def _drift(file: str, rows: Iterable[tuple[str, Row]], truth: Mapping[str, Row], where: str = "") -> Iterator[Finding]:
    """One finding a column, of the first sample that differs."""
    differing: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for key, row in rows:
        for name, value in truth.get(key, {}).items():
            if name in row and row[name] != value:
                differing[name].append((key, f"{where}{name} {row[name]}, the sample has {value}"))
    for found in differing.values():
        yield _differs(file, found[0][1] + _more(found), found[0][0])


def _more(found: Sequence[Any]) -> str:
    return f" (and {len(found) - 1:,} more)" if len(found) > 1 else ""


def _of_split(
    shard: Shard, rows: Sequence[Row], split: Sequence[Row] | None, truth: Mapping[str, Row], *, cut: bool = False
) -> list[Finding]:
    """Where the split's index differs. It has no keys: its rows are in the order of the tar or of the index."""
    if split is None:
        return []
    orders = [list(truth), [row["key"] for row in rows]]
    keys = next((keys for keys in orders if len(keys) == len(split)), None)
    file, where = shard_index.path_of(shard.tar.parent, shard.split).name, f"{shard.tar.name}: "
    if keys is not None:
        return list(_drift(file, zip(keys, split, strict=True), truth, where))
    return [] if cut else [_differs(file, f"{where}{len(split)} samples, there are {len(truth)}")]
