"""The GPU's kernel where there is none: what it would be asked for, held to its documentation by a reference."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from model import attention, language, vision
from model.attention import bounds_of, has_flash
from model.modeling import KeyeForConditionalGeneration
from model.processing import KeyeProcessor
from tests.model.test_modeling import inputs, samples


def reference(
    query: Tensor, key: Tensor, value: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int, **options: Any
) -> Tensor:
    """`varlen_attn` as its documentation has it: [T, H, K], int32 edges, window (-1, 0) for causal, GQA if asked."""
    assert query.ndim == 3 and cu_q.dtype == torch.int32 and torch.equal(cu_q, cu_k)
    assert int(cu_q[0]) == 0 and int(cu_q[-1]) == len(query) == len(key)
    assert max_q == max_k == int(cu_q.diff().max())
    assert options["enable_gqa"] or query.shape[1] == key.shape[1]
    is_causal = {(-1, 0): True, (-1, -1): False}[options["window_size"]]
    lengths = cu_q.diff().tolist()
    parts = zip(*(torch.split(x, lengths) for x in (query, key, value)), strict=True)
    outputs = [
        scaled_dot_product_attention(
            *(x.transpose(0, 1)[None] for x in part), is_causal=is_causal, scale=options["scale"], enable_gqa=True
        )[0].transpose(0, 1)
        for part in parts
    ]
    return torch.cat(outputs)


@torch.no_grad()
def test_the_kernel_is_asked_for_what_groups_compute(
    model: KeyeForConditionalGeneration, processor: KeyeProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vision tower and packed rows, with padding, take the same values by either way."""
    tensors = inputs(processor.pack([samples(processor)[:3], samples(processor)[3:]], 256))
    real = tensors["segment_ids"] > 0
    grouped = model(**tensors).logits
    calls: list[bool] = []

    def kernel(*arguments: Any, **options: Any) -> Tensor:
        calls.append(options["window_size"] == (-1, 0))
        return reference(*arguments, **options)

    monkeypatch.setattr(attention, "varlen_attn", kernel)
    for module in (language, vision):
        monkeypatch.setattr(module, "has_flash", lambda _: True)
    torch.testing.assert_close(model(**tensors).logits[real], grouped[real], rtol=0, atol=2e-5)
    assert calls == [False] * model.config.vision_config.num_hidden_layers + [True] * 4


def test_bounds_lie_end_to_end() -> None:
    bounds = bounds_of(np.array([3, 1, 5]), torch.device("cpu"))
    assert bounds.edges.tolist() == [0, 3, 4, 9] and bounds.longest == 5
    assert not has_flash(torch.zeros(1, dtype=torch.bfloat16))
