"""The language model: transformers' Qwen3 with positions on three axes, and the mask of packed rows."""

import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3Model
from transformers.masking_utils import create_causal_mask

from model.rope import KeyeRotaryEmbedding


def build_language_model(config: Qwen3Config) -> Qwen3Model:
    """Qwen3's own parts; only its rotary embedding is replaced."""
    model = Qwen3Model(config)
    model.rotary_emb = KeyeRotaryEmbedding(config)
    return model


def segment_mask(segment_ids: Tensor) -> Tensor:
    """Which token sees which, bool [B, 1, L, L]: earlier tokens of its own segment, for segments [B, L].

    Padding (segment 0) sees padding only: its rows are never empty, and nothing real sees it.
    """
    length = segment_ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segment_ids.device).tril()
    return ((segment_ids[:, :, None] == segment_ids[:, None, :]) & causal)[:, None]


def attention_masks(
    config: Qwen3Config,
    inputs_embeds: Tensor,
    attention_mask: Tensor | None,
    segment_ids: Tensor | None,
    past_key_values: object | None,
) -> dict[str, Tensor | None]:
    """The one mask all layers use, in the form Qwen3 takes it; None stands for plain causal attention.

    Built here because Qwen3 would read packing out of position ids, which jump at every image.
    """
    if segment_ids is not None:
        return {"full_attention": segment_mask(segment_ids)}
    mask = create_causal_mask(
        config=config,
        inputs_embeds=inputs_embeds,
        attention_mask=attention_mask,
        past_key_values=past_key_values,
        position_ids=None,
    )
    return {"full_attention": mask}
