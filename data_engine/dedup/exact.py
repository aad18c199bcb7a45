"""Exact duplicates: the same pictures with the same words (`describe.content_keys`), wherever they came from."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_engine.curation import Curation
from data_engine.dedup.rows import Drops, Rows
from strict_yaml import Strict


class Exact(Strict):
    """Of the samples with one content key, the first is kept."""


def find(rows: Rows, _: Exact, this: Curation, folder: Path) -> Drops:  # noqa: ARG001 - passes share one signature
    """All later rows of equal keys, sorted in memory: 40 bytes a row."""
    numbers, keys = rows.column("content_key")
    row, keeper = equal_keys(halves(keys))
    return Drops.duplicates(numbers[row], numbers[keeper])


def halves(keys: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """128-bit keys as two columns of 64 bits, [N, 2]."""
    if not len(keys):
        return np.empty((0, 2), np.uint64)
    flat = keys.combine_chunks().cast(pa.binary(16))
    data = np.frombuffer(flat.buffers()[1], np.uint64).reshape(-1, 2)
    return data[flat.offset : flat.offset + len(flat)]


def equal_keys(keys: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(later, first) of every key that appears again."""
    if len(keys) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: of equal keys the first comes first
    ordered = keys[order]
    starts = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
    first = order[starts][np.cumsum(starts) - 1]
    again = ~starts
    return order[again], first[again]
