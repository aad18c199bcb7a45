"""The vision tower: SigLIP at native resolution (report, section 2.1).

The patches of all images and frames of a batch come in one packed tensor [P, ...], without padding.
Attention stays within one image or frame. Keys of the state dict are SigLIP's own.

Shapes: P patches of the batch, N images, D width, H heads, K width of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear, scaled_dot_product_attention
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from model.attention import Bounds, bounds_of, flash, has_flash
from model.configuration import KeyeVisionConfig

Grid = tuple[int, int]
"""Rows and columns of patches of one image or frame."""


@dataclass(frozen=True)
class Groups:
    """Images of equal length side by side, so that one attention call does all of them.

    `order` [P] sorts the packed patches by group (None: they are already so), `back` undoes it, and
    `shapes` are the (images, patches each) of the groups. `bounds` are those of the images, so sorted.
    """

    order: Tensor | None
    back: Tensor | None
    shapes: list[tuple[int, int]]
    bounds: Bounds


def group_by_length(lengths: Sequence[int], device: torch.device) -> Groups:
    """Groups for packed images of `lengths` patches each, in order."""
    sizes = np.asarray(lengths)
    distinct, counts = np.unique(sizes, return_counts=True)
    shapes = list(zip(counts.tolist(), distinct.tolist(), strict=True))
    bounds = bounds_of(np.sort(sizes), device)
    if len(distinct) == 1:
        return Groups(None, None, shapes, bounds)
    order = np.argsort(np.repeat(sizes, sizes), kind="stable")
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return Groups(torch.from_numpy(order).to(device), torch.from_numpy(back).to(device), shapes, bounds)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of [P, H, K] by halves (pairs i, i + K / 2), in float32, back in the type of `x`."""
    wide = x.float()
    first, second = wide.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (wide * cos[:, None] + turned * sin[:, None]).to(x.dtype)


class PatchEmbedding(nn.Conv2d):
    """SigLIP's convolution, over patches that are cut already: then it is one matrix product."""

    def __init__(self, config: KeyeVisionConfig) -> None:
        size = config.patch_size
        super().__init__(config.num_channels, config.hidden_size, size, stride=size)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """[P, 3, 14, 14] -> [P, D]."""
        return linear(pixel_values.flatten(1).to(self.weight.dtype), self.weight.flatten(1), self.bias)


class PositionTable(nn.Embedding):
    """SigLIP's learned table of positions, interpolated to the grid of each image."""

    def __init__(self, config: KeyeVisionConfig) -> None:
        super().__init__(config.table_side**2, config.hidden_size)
        self.side = config.table_side

    def forward(self, grids: Sequence[Grid]) -> Tensor:  # type: ignore[override]
        """[P, D]: bilinear, align_corners=False, no antialias; each distinct grid is interpolated once."""
        table = self.weight.T.reshape(1, -1, self.side, self.side).float()
        resized = {grid: interpolate(table, size=grid, mode="bilinear", align_corners=False) for grid in set(grids)}
        flat = {grid: one[0].flatten(1).T.to(self.weight.dtype) for grid, one in resized.items()}
        return torch.cat([flat[grid] for grid in grids])


class KeyeVisionEmbeddings(nn.Module):
    """Patches to vectors, plus their positions."""

    def __init__(self, config: KeyeVisionConfig) -> None:
        super().__init__()
        self.patch_embedding = PatchEmbedding(config)
        self.position_embedding = PositionTable(config)

    def forward(self, pixel_values: Tensor, grids: Sequence[Grid]) -> Tensor:
        """[P, 3, 14, 14] -> [P, D]."""
        return self.patch_embedding(pixel_values) + self.position_embedding(grids)  # type: ignore[no-any-return]


class KeyeVisionAttention(nn.Module):
    """Bidirectional attention within each image."""

    def __init__(self, config: KeyeVisionConfig) -> None:
        super().__init__()
        self.num_heads, self.head_dim = config.num_attention_heads, config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], groups: Groups) -> Tensor:
        heads = (-1, self.num_heads, self.head_dim)
        q, k, v = (project(x).view(heads) for project in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(q, *rope), rotate(k, *rope)
        if has_flash(q):
            return self.out_proj(flash(q, k, v, groups.bounds, causal=False).flatten(1))  # type: ignore[no-any-return]
        rows = [count * length for count, length in groups.shapes]
        parts = zip(*(torch.split(x, rows) for x in (q, k, v)), groups.shapes, strict=True)
        return self.out_proj(torch.cat([self._attend(*part) for part in parts]))  # type: ignore[no-any-return]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, shape: tuple[int, int]) -> Tensor:
        """[n * L, H, K] of `n` images of `L` patches -> [n * L, D]."""
        q, k, v = (x.view(*shape, self.num_heads, self.head_dim).transpose(1, 2) for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(shape[0] * shape[1], -1)


class KeyeVisionMLP(nn.Module):
    def __init__(self, config: KeyeVisionConfig) -> None:
        super().__init__()
        self.activation = ACT2FN[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))  # type: ignore[no-any-return]


class KeyeVisionLayer(GradientCheckpointingLayer):  # type: ignore[misc]
    """A pre-norm transformer block, SigLIP's."""

    def __init__(self, config: KeyeVisionConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = KeyeVisionAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = KeyeVisionMLP(config)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], groups: Groups) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), rope, groups)
        return x + self.mlp(self.layer_norm2(x))  # type: ignore[no-any-return]


class KeyeVisionEncoder(nn.Module):
    def __init__(self, config: KeyeVisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(KeyeVisionLayer(config) for _ in range(config.num_hidden_layers))


class KeyeVisionTransformer(nn.Module):
    """Embeddings, blocks and the final norm. SigLIP's pooling head has no use here and does not exist."""

    def __init__(self, config: KeyeVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = KeyeVisionEmbeddings(config)
        self.encoder = KeyeVisionEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def rope(self, grids: Sequence[Grid], device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosines and sines [P, K]: rows turn the first half of the frequencies, columns the second."""
        dim = self.config.head_dim // 2
        exponents = torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim
        frequencies = self.config.rope_theta**-exponents
        angles = {grid: _angles(grid, frequencies) for grid in set(grids)}
        packed = torch.cat([angles[grid] for grid in grids])
        return packed.cos(), packed.sin()

    def forward(self, pixel_values: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Packed patches [P, 3, 14, 14] of images with `grids` -> features [P, D], in the same order."""
        x = self.embeddings(pixel_values, grids)
        rope = self.rope(grids, x.device)
        groups = group_by_length([rows * columns for rows, columns in grids], x.device)
        if groups.order is not None:
            x, rope = x.index_select(0, groups.order), (rope[0][groups.order], rope[1][groups.order])
        for layer in self.encoder.layers:
            x = layer(x, rope, groups)
        x = self.post_layernorm(x)
        return x if groups.back is None else x.index_select(0, groups.back)  # type: ignore[no-any-return]


def _angles(grid: Grid, frequencies: Tensor) -> Tensor:
    """Angles [rows * columns, K] of a grid's patches in raster order."""
    rows = torch.arange(grid[0], device=frequencies.device).repeat_interleave(grid[1])
    columns = torch.arange(grid[1], device=frequencies.device).repeat(grid[0])
    half = torch.cat([rows[:, None] * frequencies, columns[:, None] * frequencies], dim=-1)
    return torch.cat([half, half], dim=-1)


class KeyeVisionModel(nn.Module):
    """Holds `vision_model`, so that keys read `visual.vision_model.*` as in the published checkpoint."""

    def __init__(self, config: KeyeVisionConfig) -> None:
        super().__init__()
        self.vision_model = KeyeVisionTransformer(config)

    def forward(self, pixel_values: Tensor, grids: Sequence[Grid]) -> Tensor:
        return self.vision_model(pixel_values, grids)  # type: ignore[no-any-return]
