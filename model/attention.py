"""Attention within segments of a packed row, by the best kernel that the machine has.

On a GPU in half precision that is torch's own variable-length flash attention. Everywhere else segments of
like length go through `scaled_dot_product_attention` side by side (`model.vision`, `model.language`): no dense
mask, whose cost would grow with the square of the row.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn


@dataclass(frozen=True)
class Bounds:
    """Where segments that lie end to end begin and end: `edges` [N + 1] (int32), and the longest one's length."""

    edges: Tensor
    longest: int


def bounds_of(lengths: NDArray[np.int64], device: torch.device) -> Bounds:
    """Bounds of segments of `lengths` [N]."""
    edges = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return Bounds(torch.from_numpy(edges).to(device), int(lengths.max()))


def has_flash(x: Tensor) -> bool:
    """Whether `flash` can take `x`: on a GPU (compute capability 8 or more), in half precision."""
    is_half = x.dtype in (torch.bfloat16, torch.float16)
    return x.is_cuda and is_half and torch.cuda.get_device_capability(x.device)[0] >= 8


def flash(
    query: Tensor, key: Tensor, value: Tensor, bounds: Bounds, *, causal: bool, scale: float | None = None
) -> Tensor:
    """`query` [T, H, K], `key` and `value` [T, H_kv, K] of segments end to end -> [T, H, K]."""
    return varlen_attn(  # type: ignore[return-value]
        query,
        key,
        value,
        bounds.edges,
        bounds.edges,
        bounds.longest,
        bounds.longest,
        scale=scale,
        window_size=(-1, 0) if causal else (-1, -1),
        enable_gqa=query.shape[1] != key.shape[1],
    )
