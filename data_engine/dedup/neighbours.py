"""All pairs of unit vectors above a cosine, exact: blocks of the matrix of products, within a memory stated beforehand.

Vectors lie on disk in the order of their groups, and only those of one group are compared. A panel of rows is
multiplied by one block of columns after another; what it joins is kept as a forest, so that a thousand copies of one
text leave a thousand edges and not half a million pairs.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_engine.dedup.components import flatten, join_all

Ints = npt.NDArray[np.int64]
_PER_CELL = 21  # bytes: a product (4), whether it is large enough (1), and a pair of places (16) if all were
_PER_VALUE = 12  # bytes of a panel's and of a block's values, as stored and as float32
_PER_VECTOR = 16  # bytes: its group, and its parent in the forest
_LARGEST = 4096


def block_rows(num_vectors: int, dim: int, memory_mb: int) -> int:
    """Rows of a panel, and of a block, so that a worker stays within the memory. Raises ValueError if none fits."""
    left = (memory_mb << 20) - _PER_VECTOR * num_vectors
    values = _PER_VALUE * dim
    rows = int((-values + np.sqrt(values**2 + 4.0 * _PER_CELL * max(left, 0))) / (2 * _PER_CELL))
    if rows < 64:
        needed = (_PER_VECTOR * num_vectors + (_PER_CELL * 64 + values) * 64 >> 20) + 1
        raise ValueError(f"{num_vectors:,} vectors of {dim} values need memory_mb: {needed}; raise it")
    return min(rows, _LARGEST)


def panel_forest(vectors: Path, groups: Path, start: int, rows: int, min_cosine: float) -> tuple[Ints, Ints]:
    """(later, first) edges that join what rows [start, start + rows) are near to, themselves and all that follow.

    `vectors` is [N, D] float16, `groups` [N] in rising order; both are mapped, not read whole.
    """
    stored, group = np.load(vectors, mmap_mode="r"), np.load(groups, mmap_mode="r")
    stop = min(start + rows, len(group))
    end = int(np.searchsorted(group, group[stop - 1], side="right"))
    panel = stored[start:stop].astype(np.float32)
    parent = np.arange(end - start, dtype=np.int64)
    for low in range(start, end, rows):
        block = stored[low : min(low + rows, end)].astype(np.float32)
        first, second = np.nonzero(panel @ block.T >= min_cosine)
        second += low - start
        one_group = (first < second) & (group[start + first] == group[start + second])
        join_all(parent, first[one_group], second[one_group])
    root = flatten(parent)
    later = np.flatnonzero(root != np.arange(len(root)))
    return later + start, root[later] + start
