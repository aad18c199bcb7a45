"""The language model: transformers' Qwen3 with positions on three axes, and attention for packed rows.

A packed row holds many samples that must not see each other. Instead of a dense block-diagonal mask, whose
cost grows with the square of the row, samples of similar length go through attention side by side.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import Qwen3Config, Qwen3Model
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, create_causal_mask, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from model.attention import Bounds, bounds_of, flash, has_flash
from model.rope import MultimodalRotaryEmbedding

ATTENTION = "keye_packed"
"""Name of `packed_attention` among transformers' attention implementations."""

FILL = 0.75
"""Samples attended side by side are at least this long relative to the longest of them."""


def build_language_model(config: Qwen3Config) -> Qwen3Model:
    """Qwen3's own parts, with rotary embedding on three axes and our attention call.

    Raises ValueError when the sections do not add up to the rotary pairs.
    """
    section = config.rope_parameters["mrope_section"]
    if sum(section) * 2 != config.head_dim:
        raise ValueError(f"mrope_section {section} must add up to head_dim / 2 = {config.head_dim / 2}")
    config._attn_implementation = ATTENTION
    model = Qwen3Model(config)
    model.rotary_emb = MultimodalRotaryEmbedding(config)
    return model


@dataclass(frozen=True)
class Segments:
    """Samples of packed rows, grouped by length.

    Each group is (tokens [n * m], n, m): `n` samples padded on the right to `m`, as indices into the B * L
    tokens. `back` [B * L] finds each token in the groups' outputs laid end to end. `bounds` are those of the
    samples where they lie.
    """

    groups: list[tuple[Tensor, int, int]]
    back: Tensor
    bounds: Bounds


def group_segments(segment_ids: Tensor) -> Segments:
    """The segments of `segment_ids` [B, L]. Padding is treated as one more segment: it sees only itself."""
    ids = segment_ids.cpu().numpy()
    is_start = np.ones(ids.shape, dtype=bool)
    is_start[:, 1:] = ids[:, 1:] != ids[:, :-1]
    starts = np.flatnonzero(is_start)
    lengths = np.diff(starts, append=ids.size)
    by_length = np.argsort(-lengths, kind="stable")
    groups, back, offset = [], np.empty(ids.size, dtype=np.int64), 0
    while len(by_length):
        longest = int(lengths[by_length[0]])
        group, by_length = _split(by_length, lengths[by_length] >= FILL * longest)
        steps = np.arange(longest)
        tokens = starts[group, None] + np.minimum(steps, lengths[group, None] - 1)
        is_real = steps < lengths[group, None]
        back[tokens[is_real]] = offset + np.flatnonzero(is_real)
        offset += tokens.size
        groups.append((torch.from_numpy(tokens.ravel()).to(segment_ids.device), len(group), longest))
    bounds = bounds_of(lengths, segment_ids.device)
    return Segments(groups, torch.from_numpy(back).to(segment_ids.device), bounds)


def _split(array: Any, where: Any) -> tuple[Any, Any]:
    return array[where], array[~where]


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: Segments | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each of `segments`; without them, transformers' own `sdpa`.

    `query` [B, H, L, K], `key` and `value` [B, H_kv, L, K] -> [B, L, H, K]. Right padding needs no mask:
    in causal attention no real token sees what comes after it.
    """
    if segments is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)  # type: ignore[no-any-return]
    batch, heads, length, width = query.shape
    tokens = [x.transpose(1, 2).reshape(batch * length, -1) for x in (query, key, value)]
    if has_flash(query):
        q, k, v = (x.view(batch * length, -1, width) for x in tokens)
        output = flash(q, k, v, segments.bounds, causal=True, scale=kwargs["scaling"])
        return output.view(batch, length, heads, width), None
    repeats = heads // key.shape[1]
    outputs = []
    for index, count, longest in segments.groups:
        q, k, v = (x.index_select(0, index).view(count, longest, -1, width).transpose(1, 2) for x in tokens)
        k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
        output = scaled_dot_product_attention(q, k, v, is_causal=True, scale=kwargs["scaling"])
        outputs.append(output.transpose(1, 2).reshape(-1, heads * width))
    return torch.cat(outputs).index_select(0, segments.back).view(batch, length, heads, width), None


def attention_inputs(
    config: Qwen3Config,
    inputs_embeds: Tensor,
    attention_mask: Tensor | None,
    segment_ids: Tensor | None,
    past_key_values: Any,
) -> dict[str, Any]:
    """What Qwen3's layers need to know who sees whom: built once per forward, for all layers.

    Qwen3 itself would read packing out of position ids, which here jump at every image.
    """
    if segment_ids is not None:
        return {"attention_mask": {"full_attention": None}, "segments": group_segments(segment_ids)}
    mask = create_causal_mask(
        config=config,
        inputs_embeds=inputs_embeds,
        attention_mask=attention_mask,
        past_key_values=past_key_values,
        position_ids=None,
    )
    return {"attention_mask": {"full_attention": mask}}


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, packed_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, sdpa_mask)
