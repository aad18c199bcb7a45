"""Positions on three axes: time, height and width.

Keye-VL-1.5 gives every image and every frame its own block: one time step, rows and columns counted
from where the text before it stopped. Absolute time is text (the timestamps), never a position.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]


@lru_cache(maxsize=4096)
def _block(rows: int, columns: int) -> Int:
    """Offsets [3, rows * columns] of an image's tokens from its first position, in raster order."""
    height, width = np.divmod(np.arange(rows * columns), columns)
    return np.stack([np.zeros_like(height), height, width])


def position_ids(is_visual: NDArray[np.bool_], grid_thw: Int, merge: int = 2) -> Int:
    """Positions [3, L] of one sequence whose visual tokens are marked in `is_visual` [L].

    A text token takes the next position on all axes. A block of h x w tokens that starts at p takes
    (p, p + row, p + column), and the token after it p + max(h, w): one more than its largest position.
    `grid_thw` [N, 3] gives the patches (1, h, w) of each image or frame in order.
    Raises ValueError with both counts when the visual tokens are not exactly those of the grids.
    """
    grids = np.asarray(grid_thw, dtype=np.int64).reshape(-1, 3)[:, 1:] // merge
    counts = grids.prod(axis=1)
    if counts.sum() != is_visual.sum():
        raise ValueError(f"{int(is_visual.sum())} visual tokens in the text, {int(counts.sum())} in the images")
    advance = np.where(is_visual, 0, 1)
    (where,) = np.nonzero(is_visual)
    advance[where[np.cumsum(counts) - 1]] = grids.max(axis=1, initial=0)
    start = np.cumsum(advance) - advance
    positions = np.broadcast_to(start, (3, len(start))).copy()
    if len(grids):
        positions[:, where] += np.concatenate([_block(*grid) for grid in grids.tolist()], axis=1)
    return positions
