"""The projector: 2 x 2 patches become one language-model token.

In Keye-VL-1.5 the norm comes after the merge, over 4 D (the preview had it before, over D).
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from model.configuration import KeyeVisionConfig
from model.vision import Grid


@lru_cache(maxsize=1024)
def _merge_order(grid: Grid, merge: int) -> Tensor:
    """Raster indices of a grid's patches, square by square, each square in raster order."""
    rows, columns = grid
    index = torch.arange(rows * columns).view(rows // merge, merge, columns // merge, merge)
    return index.transpose(1, 2).flatten()


def merge_patches(features: Tensor, grids: Sequence[Grid], merge: int = 2) -> Tensor:
    """Packed features [P, D] -> [P / 4, 4 D]: the four patches of a square side by side."""
    sizes = [rows * columns for rows, columns in grids]
    starts = torch.tensor([0, *sizes[:-1]]).cumsum(0).repeat_interleave(torch.tensor(sizes))
    order = torch.cat([_merge_order(grid, merge) for grid in grids]) + starts
    return features.index_select(0, order.to(features.device)).view(-1, merge * merge * features.shape[-1])


class KeyeProjector(nn.Module):
    """LayerNorm over the merged square, Linear, exact GELU, Linear."""

    def __init__(self, vision: KeyeVisionConfig, hidden_size: int) -> None:
        super().__init__()
        self.merge = vision.spatial_merge_size
        width = vision.hidden_size * self.merge**2
        self.pre_norm = nn.LayerNorm(width, eps=1e-5)
        self.linear_1 = nn.Linear(width, width)
        self.linear_2 = nn.Linear(width, hidden_size)

    def forward(self, features: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Features [P, D] of packed images -> language-model embeddings [P / 4, hidden_size]."""
        merged = self.pre_norm(merge_patches(features, grids, self.merge))
        return self.linear_2(gelu(self.linear_1(merged)))  # type: ignore[no-any-return]
