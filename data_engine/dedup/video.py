"""Near-duplicate clips and clips contained in others, by the sequences of their frames' hashes.

Every pair of clips with two frames within the radius is found by an index (`dedup.hamming`: exact) and aligned at the
offset that suits it best. Spans of one file are compared by their times alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_engine.curation import Curation
from data_engine.dedup.hamming import near_pairs, ones
from data_engine.dedup.rows import Drops, Rows
from data_engine.describe import owners
from data_engine.seen_clips import CLIP
from strict_yaml import Strict

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_CHUNK = 1 << 22
_END = 1e12  # of a clip that runs to the end of its film: beyond all
_SLACK, _STEP = 2.5, 0.8
"""Bits that coding costs, and the share of what passes between two sampled frames that an offset may cost: frames of
two clips of one scene at other moments, under a standing camera, differ by more."""


class Video(Strict):
    """A clip goes if a longer one that stays holds it: of two alike the longer is kept, then the first one seen.

    Held means: at one offset at least `min_cover` of its frames fall into the other clip, `min_share` of these differ
    in at most `max_hamming` of 64 bits, and on average they differ no more than the clip's own successive frames do.
    Clips with fewer than `min_frames` frames that can be told apart (plain ones cannot) are never dropped.
    """

    max_hamming: int = Field(default=8, ge=0, le=15)
    min_share: float = Field(default=0.5, gt=0, le=1)
    min_cover: float = Field(default=0.8, gt=0, le=1)
    min_frames: int = Field(default=3, ge=1)


@dataclass(frozen=True, slots=True)
class Clips:
    """Distinct clips (a file and a span of it): their file, times, and frame hashes `hashes[start[i]:start[i + 1]]`;
    and which row shows which clip (parallel arrays)."""

    file: Ints
    begins: Floats
    ends: Floats
    hashes: npt.NDArray[np.uint64]
    start: Ints
    row: Ints
    shown: Ints

    def __len__(self) -> int:
        return len(self.file)


def find(rows: Rows, config: Video, this: Curation, folder: Path) -> Drops:  # noqa: ARG001 - passes share one signature
    """Rows that show a clip which another row's clip, kept, holds."""
    clips = clips_of(rows)
    held, holder = containments(clips, config)
    row, keeper = _walk(clips, held, holder, rows.first_new)
    return Drops.duplicates(row, keeper)


def clips_of(rows: Rows) -> Clips:
    """All clips that rows still kept show."""
    numbers, column = rows.column("clips")
    flat = column.combine_chunks().flatten() if len(column) else pa.array([], CLIP)
    row = numbers[owners(column)] if len(column) else np.empty(0, np.int64)
    keys = pc.dictionary_encode(pc.struct_field(flat, "key")).indices.to_numpy(zero_copy_only=False).astype(np.int64)
    begins = pc.fill_null(pc.struct_field(flat, "start"), 0.0).to_numpy(zero_copy_only=False)
    ends = pc.fill_null(pc.struct_field(flat, "end"), np.inf).to_numpy(zero_copy_only=False)
    whole = np.stack([keys.astype(np.float64), begins, ends], axis=1)
    _, first, clip = np.unique(whole, axis=0, return_index=True, return_inverse=True)
    hashes = pc.struct_field(flat.take(pa.array(first)), "hashes")
    lengths = pc.list_value_length(hashes).to_numpy(zero_copy_only=False)
    start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = hashes.flatten().to_numpy(zero_copy_only=False)
    return Clips(keys[first], begins[first], ends[first], values, start, row, clip.ravel().astype(np.int64))


def containments(clips: Clips, config: Video) -> tuple[Ints, Ints]:
    """(held, holder): pairs of clips of which the first is within the second; of two alike both ways."""
    found = [_overlapping(clips, config.min_cover)]
    for pairs in _candidates(clips, config.max_hamming):
        others = pairs[clips.file[pairs[:, 0]] != clips.file[pairs[:, 1]]]
        sure = _held(
            *(clips.hashes, clips.start, others[:, 0], others[:, 1]),
            *(config.max_hamming, config.min_share, config.min_cover, config.min_frames),
        )
        found.append(others[sure])
    whole = np.unique(np.concatenate(found), axis=0)
    return whole[:, 0], whole[:, 1]


def _overlapping(clips: Clips, min_cover: float) -> Ints:
    """(held, holder) of spans of one file."""
    order = np.lexsort((clips.begins, clips.file))
    ends = np.where(np.isinf(clips.ends), _END, clips.ends)
    pairs: Ints = _overlaps(order, clips.file, clips.begins, ends, min_cover)
    return pairs


@numba.njit(cache=True)
def _overlaps(order, file, begins, ends, min_cover):  # type: ignore[no-untyped-def]
    pairs, count = np.empty((1024, 2), np.int64), 0
    for place in range(len(order)):
        a = order[place]
        for after in range(place + 1, len(order)):
            b = order[after]
            if file[b] != file[a] or begins[b] >= ends[a]:
                break
            shared = min(ends[a], ends[b]) - begins[b]
            if count + 2 > len(pairs):
                pairs = np.concatenate((pairs, np.empty_like(pairs)))
            if shared >= min_cover * (ends[a] - begins[a]):
                pairs[count, 0], pairs[count, 1] = a, b
                count += 1
            if shared >= min_cover * (ends[b] - begins[b]):
                pairs[count, 0], pairs[count, 1] = b, a
                count += 1
    return pairs[:count].copy()


def _candidates(clips: Clips, radius: int) -> Iterator[Ints]:
    """Ordered pairs of clips [n, 2], each in both orders, that have frames within the radius; in pieces."""
    told = np.flatnonzero(clips.hashes)
    of = np.repeat(np.arange(len(clips)), np.diff(clips.start))[told]
    distinct, code = np.unique(clips.hashes[told], return_inverse=True)
    once = np.unique(code.ravel() * max(len(clips), 1) + of)
    code, of = np.divmod(once, max(len(clips), 1))
    start = np.searchsorted(code, np.arange(len(distinct) + 1))
    near = near_pairs(distinct, radius)
    alone = np.repeat(np.arange(len(distinct))[:, None], 2, axis=1)
    seen = np.empty(0, np.int64)
    for pairs in (alone, near):
        work = np.diff(start)[pairs[:, 0]] * np.diff(start)[pairs[:, 1]]
        cuts = np.searchsorted(np.cumsum(work), np.arange(_CHUNK, work.sum() + _CHUNK, _CHUNK))
        for piece in np.split(pairs, cuts[:-1]):
            codes = np.unique(_expand(piece, start, of, len(clips)))
            fresh = codes[~np.isin(codes, seen, assume_unique=True)]
            seen = np.union1d(seen, fresh)
            first, second = np.divmod(fresh, max(len(clips), 1))
            yield np.concatenate([np.stack([first, second], 1), np.stack([second, first], 1)])


@numba.njit(cache=True)
def _expand(pairs, start, of, count):  # type: ignore[no-untyped-def]
    """The pairs of clips (smaller number first, as one code) that show the two hashes of a pair."""
    total = 0
    for at in range(len(pairs)):
        u, v = pairs[at]
        total += (start[u + 1] - start[u]) * (start[v + 1] - start[v])
    found, used = np.empty(total, np.int64), 0
    for at in range(len(pairs)):
        u, v = pairs[at]
        for a in of[start[u] : start[u + 1]]:
            for b in of[start[v] : start[v + 1]]:
                if a != b:
                    found[used] = min(a, b) * count + max(a, b)
                    used += 1
    return found[:used]


@numba.njit(cache=True)
def _held(hashes, start, first, second, radius, min_share, min_cover, min_frames):  # type: ignore[no-untyped-def]
    found = np.zeros(len(first), np.bool_)
    for pair in range(len(first)):
        a, b = (
            hashes[start[first[pair]] : start[first[pair] + 1]],
            hashes[start[second[pair]] : start[second[pair] + 1]],
        )
        bound = _SLACK + _STEP * max(_own_step(a), _own_step(b))
        need = max(1, int(np.ceil(min_cover * len(a) - 1e-9)))
        for offset in range(need - len(a), len(b) - need + 1):
            low, high = max(0, -offset), min(len(a), len(b) - offset)
            if high - low >= need and _same(
                a[low:high], b[low + offset : high + offset], radius, min_share, min_frames, bound
            ):
                found[pair] = True
                break
    return found


@numba.njit(cache=True)
def _same(a, b, radius, min_share, min_frames, bound):  # type: ignore[no-untyped-def]
    """Whether two sequences of frames, one beside the other, are of the same moments."""
    told, close, total = np.int64(0), np.int64(0), np.int64(0)
    for at in range(len(a)):
        if a[at] == 0 and b[at] == 0:
            continue
        told += 1
        apart = np.int64(ones(a[at] ^ b[at])) if a[at] != 0 and b[at] != 0 else 32
        total += apart
        close += apart <= radius
    return told >= min_frames and close >= min_share * told and total <= bound * told


@numba.njit(cache=True)
def _own_step(hashes):  # type: ignore[no-untyped-def]
    """Mean distance of successive frames that can be told apart."""
    total, count = np.int64(0), 0
    for at in range(1, len(hashes)):
        if hashes[at] != 0 and hashes[at - 1] != 0:
            total += np.int64(ones(hashes[at] ^ hashes[at - 1]))
            count += 1
    return total / count if count else 0.0


def _walk(clips: Clips, held: Ints, holder: Ints, first_new: int) -> tuple[Ints, Ints]:
    """(dropped, kept in its place): rows of earlier releases first, then those with the longest clips."""
    frames = np.diff(clips.start)[clips.shown]
    rows, inverse = np.unique(clips.row, return_inverse=True)
    longest = np.zeros(len(rows), np.int64)
    np.maximum.at(longest, inverse, frames)
    order = np.lexsort((rows, np.where(rows < first_new, 0, -longest), rows >= first_new))
    by_row = np.argsort(inverse, kind="stable")
    of_row = np.searchsorted(inverse[by_row], np.arange(len(rows) + 1))
    by_clip = np.argsort(held, kind="stable")
    of_clip = np.searchsorted(held[by_clip], np.arange(len(clips) + 1))
    dropped, keeper = _drop(order, rows, of_row, clips.shown[by_row], of_clip, holder[by_clip], first_new, len(clips))
    return dropped, keeper


@numba.njit(cache=True)
def _drop(order, rows, of_row, shown, of_clip, holders, first_new, count):  # type: ignore[no-untyped-def]
    shown_by = np.full(count, -1, np.int64)
    dropped, keeper, used = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64), 0
    for place in order:
        twin = -1
        mine = shown[of_row[place] : of_row[place + 1]]
        for clip in mine:
            for holder in holders[of_clip[clip] : of_clip[clip + 1]]:
                if twin < 0 and shown_by[holder] >= 0 and rows[place] >= first_new:
                    twin = shown_by[holder]
        if twin >= 0:
            dropped[used], keeper[used] = rows[place], twin
            used += 1
        else:
            for clip in mine:
                if shown_by[clip] < 0:
                    shown_by[clip] = rows[place]
    return dropped[:used], keeper[:used]
