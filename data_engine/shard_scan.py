"""What a shard's tar really holds: its samples by the bytes, whatever the indexes say of them.

The indexes are only a help: where a range they tell of has its checksum, the samples in it are as they were written.
What is between such ranges is read header by header, as any reader of tars would.
"""

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from data_engine.tar_blocks import END, SIZE

_SUM = slice(148, 156)


class Range(NamedTuple):
    """Where an index says that a sample is, and its checksum there."""

    offset: int
    size: int
    xxh3: int


@dataclass(frozen=True, slots=True)
class Member:
    """A file in the tar, from its header (`offset`) to the next (`end`)."""

    key: str
    suffix: str
    data: memoryview
    offset: int
    end: int


@dataclass(frozen=True, slots=True)
class Group:
    """Members of one key that stand together. Not `intact`: in its place, with other bytes than were written."""

    key: str
    offset: int
    size: int
    xxh3: int
    members: tuple[Member, ...]
    intact: bool = True


@dataclass(frozen=True, slots=True)
class Scan:
    """The groups in order. `broken_at`: the byte from which on nothing can be read, if there is one; `end`: that after
    the last sample."""

    groups: list[Group]
    end: int
    broken_at: int | None


def scan(content: memoryview, ranges: Collection[Range], keys: Mapping[tuple[int, int], str]) -> Scan:
    """Reads all of a tar. `keys`: those that an index has for (offset, size), to name what can no longer be read."""
    intact = [
        told
        for told in sorted(ranges)
        if xxh3_64_intdigest(content[told.offset : told.offset + told.size]) == told.xxh3
    ]
    doubtful = {(told.offset, told.size) for told in ranges} - {(told.offset, told.size) for told in intact}
    groups: list[Group] = []
    position = 0
    for told in intact:
        if told.offset < position:
            continue  # two indexes tell of the same place
        if told.offset > position:
            groups += _between(content, position, told.offset, doubtful, keys)[0]
        groups += _walk(content, told.offset, told.offset + told.size)[0]
        position = told.offset + told.size
    rest, end, whole = _between(content, position, None, doubtful, keys)
    return Scan([*groups, *rest], end, None if whole else end)


def _between(
    content: memoryview,
    start: int,
    stop: int | None,
    doubtful: set[tuple[int, int]],
    keys: Mapping[tuple[int, int], str],
) -> tuple[list[Group], int, bool]:
    """The groups from `start` to `stop` (None: the tar's end mark), where they end, and whether all could be read.

    Samples that are damaged, but where the indexes say, are told as such and not taken apart.
    """
    groups, end, whole = _walk(content, start, stop)
    close = stop if stop is not None else _end_mark(content)
    told = sorted(place for place in doubtful if start <= place[0] < (close or 0))
    ends = [start, *(offset + size for offset, size in told)]
    tiled = ends[-1] == close and ends[:-1] == [offset for offset, _ in told] and bool(told)
    if tiled and (not whole or [(group.offset, group.size) for group in groups] == told):
        named = {(group.offset, group.size): group.key for group in groups} | dict(keys)
        return [_damaged(named.get(place, ""), *place) for place in told], ends[-1], True
    return groups if whole else groups[:-1], end, whole


def _damaged(key: str, offset: int, size: int) -> Group:
    return Group(key, offset, size, 0, (), intact=False)


def _end_mark(content: memoryview) -> int | None:
    """Where the end mark of a tar is that has nothing after it."""
    return content.nbytes - len(END) if content.nbytes >= len(END) and content[-len(END) :] == END else None


def _walk(content: memoryview, start: int, stop: int | None) -> tuple[list[Group], int, bool]:
    """Groups from header to header, where that ends, and whether it ended as it should: at `stop`, or the end mark."""
    members = []
    position = start
    limit = content.nbytes if stop is None else stop
    while position < limit and (found := _member(content, position, limit)) is not None:
        members.append(found)
        position = found.end
    marked = stop is None and content[position : position + len(END)] == END
    return _grouped(content, members), position, marked or position == stop


def _member(content: memoryview, position: int, limit: int) -> Member | None:
    """The member at a place; None where there is no sound header, or not all of its data."""
    head = bytes(content[position : position + SIZE])
    if len(head) < SIZE or not head[0] or _octal(head[_SUM]) != sum(head) - sum(head[_SUM]) + 8 * ord(" "):
        return None
    size = _octal(head[124:136])
    start = position + SIZE
    end = start + size + -size % SIZE
    if end > limit:
        return None
    key, _, suffix = head[:100].rstrip(b"\0").decode(errors="replace").partition(".")
    return Member(key, suffix, content[start : start + size], position, end)


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else -1


def _grouped(content: memoryview, members: list[Member]) -> list[Group]:
    groups = []
    for key, found in itertools.groupby(members, lambda member: member.key):
        run = tuple(found)
        offset, end = run[0].offset, run[-1].end
        groups.append(Group(key, offset, end - offset, xxh3_64_intdigest(content[offset:end]), run))
    return groups
