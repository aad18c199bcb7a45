"""Positions on three axes (time, height and width), and the rotary angles they turn by.

Keye-VL-1.5 gives every image and every frame its own block: one time step, rows and columns counted
from where the text before it stopped. Absolute time is text (the timestamps), never a position.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Int = NDArray[np.int64]


@lru_cache(maxsize=4096)
def _block(rows: int, columns: int) -> tuple[Int, Int]:
    """Row and column [rows * columns] of each of an image's tokens, in raster order."""
    return np.divmod(np.arange(rows * columns), columns)


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
    advance = (~is_visual).astype(np.int64)
    where = np.flatnonzero(is_visual)
    advance[where[np.cumsum(counts) - 1]] = grids.max(axis=1, initial=0)
    positions = np.empty((3, len(advance)), dtype=np.int64)
    positions[:] = np.cumsum(advance) - advance
    if len(grids):
        blocks = [_block(*grid) for grid in grids.tolist()]
        for axis in (1, 2):
            positions[axis, where] += np.concatenate([block[axis - 1] for block in blocks])
    return positions


def split_grids(num_visual: Sequence[int], grid_thw: Int, merge: int = 2) -> list[Int]:
    """The grids of each row of a batch whose rows have `num_visual` visual tokens.

    Raises ValueError that names the row and both counts where a row's tokens are not those of whole images.
    """
    grids = np.asarray(grid_thw, dtype=np.int64).reshape(-1, 3)
    sizes = grids[:, 1:].prod(axis=1) // merge**2
    ends = np.concatenate([[0], np.cumsum(sizes)])
    wanted = np.concatenate([[0], np.cumsum(num_visual)]).astype(np.int64)
    found = np.searchsorted(ends, wanted)
    for row in range(len(num_visual)):
        if found[row + 1] >= len(ends) or ends[found[row + 1]] != wanted[row + 1]:
            shown = " + ".join(map(str, sizes[found[row] : found[row + 1]].tolist())) or "0"
            raise ValueError(
                f"row {row}: {num_visual[row]} visual placeholders in input_ids, but {shown} "
                "visual features in the images of grid_thw that are next: pass the pixel_values and grid_thw that "
                "the processor made with these input_ids"
            )
    if wanted[-1] != ends[-1]:
        raise ValueError(
            f"{wanted[-1]} visual placeholders in input_ids of all {len(num_visual)} rows, {ends[-1]} visual "
            "features in grid_thw: pass the pixel_values and grid_thw that the processor made with these input_ids"
        )
    return [grids[first:last] for first, last in pairwise(found)]


def batch_position_ids(
    is_visual: NDArray[np.bool_], is_real: NDArray[np.bool_], grid_thw: Int, merge: int = 2
) -> tuple[Int, Int]:
    """Positions [3, B, L] of a padded batch, and each row's `rope_deltas` [B].

    Decoding goes on at (index in the row) + delta: a row's positions end before or after its tokens do, as
    images take fewer positions than tokens and padding takes none. `is_real` [B, L] is False at padding.
    Raises ValueError as `split_grids` does.
    """
    grids = split_grids(is_visual.sum(axis=1).tolist(), grid_thw, merge)
    positions = np.zeros((3, *is_visual.shape), dtype=np.int64)
    for row, (real, visual) in enumerate(zip(is_real, is_visual, strict=True)):
        positions[:, row, real] = position_ids(visual[real], grids[row], merge)
    following = np.where(is_real.any(axis=1), positions.max(axis=(0, 2)) + 1, 0)
    return positions, following - is_visual.shape[1]


class MultimodalRotaryEmbedding(nn.Module):
    """Cosines and sines on three axes, with contiguous sections as in Qwen2-VL.

    It holds no buffer: frequencies come from the config at every call, in float32. So nothing can be stale
    after a reset of the base, a load on the meta device or a cast of the model to half precision.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def frequencies(self, device: torch.device | str = "cpu") -> Tensor:
        """[K / 2]: base^(-2i / K) for pair i of a head of width K."""
        dim = self.config.head_dim
        exponents = torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim
        return 1.0 / (self.config.rope_parameters["rope_theta"] ** exponents)  # type: ignore[no-any-return]

    @torch.no_grad()
    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """`position_ids` [3, B, L] (or [B, L] for text alone) -> cosines and sines [B, L, K], in the type of `x`."""
        angles = position_ids.expand(3, -1, -1)[..., None].float() * self.frequencies(x.device)
        sections = torch.split(angles, self.config.rope_parameters["mrope_section"], dim=-1)
        half = torch.cat([section[axis] for axis, section in enumerate(sections)], dim=-1)
        cos, sin = half.cos().to(x.dtype), half.sin().to(x.dtype)
        return torch.cat([cos, cos], dim=-1), torch.cat([sin, sin], dim=-1)
