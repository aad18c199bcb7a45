"""Arithmetic against the modules themselves: torch counts what they are made of and what they multiply."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.cost import language_flops, parameters, projector_flops, sample_flops, vision_flops
from model.modeling import KeyeForConditionalGeneration, config_of

GRIDS = [(4, 6), (4, 6), (10, 2)]


def on_meta(preset: str) -> KeyeForConditionalGeneration:
    with torch.device("meta"):
        return KeyeForConditionalGeneration(config_of(preset))


@pytest.mark.parametrize("preset", ["tiny", "0.1b", "8b"])
def test_parameters_are_those_of_the_modules(preset: str) -> None:
    model = on_meta(preset)
    counts = parameters(model.config)
    assert counts.vision == sum(p.numel() for p in model.visual.parameters())
    assert counts.projector == sum(p.numel() for p in model.mlp_AR.parameters())
    blocks = [*model.model.layers.parameters(), *model.model.norm.parameters()]
    assert counts.blocks == sum(p.numel() for p in blocks)
    assert counts.total == sum(p.numel() for p in model.parameters())


def test_the_report_calls_it_8b() -> None:
    assert 8.5e9 < parameters(config_of("8b")).total < 8.7e9
    assert parameters(config_of("8b")).embeddings + parameters(config_of("8b")).blocks == 8_190_735_360


@pytest.mark.parametrize("preset", ["tiny", "8b"])
def test_flops_are_those_torch_counts(preset: str) -> None:
    """On the meta device, nothing computed. torch counts a causal square in full: the half is added back."""
    model = on_meta(preset)
    config, text = model.config, model.config.text_config
    patches = sum(rows * columns for rows, columns in GRIDS)
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        features = model.visual(torch.empty(patches, 3, 14, 14), GRIDS)
    assert counter.get_total_flops() == vision_flops(config.vision_config, GRIDS)
    with FlopCounterMode(display=False) as counter:
        hidden = model.mlp_AR.linear_2(model.mlp_AR.linear_1(features.view(patches // 4, -1)))
    assert counter.get_total_flops() == projector_flops(config, GRIDS)
    length = 24
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        hidden = model.model(inputs_embeds=torch.empty(1, length, text.hidden_size)).last_hidden_state
        model.lm_head(hidden[:, -3:])
    width = text.num_attention_heads * text.head_dim
    upper = text.num_hidden_layers * 2 * width * length * (length - 1)
    assert counter.get_total_flops() == language_flops(text, [length], scored=3) + upper


def test_a_sample_is_the_sum_of_its_parts() -> None:
    config = config_of("tiny")
    parts = vision_flops(config.vision_config, GRIDS) + projector_flops(config, GRIDS)
    assert sample_flops(config, 40, GRIDS, scored=2) == parts + language_flops(config.text_config, [40], 2)
    packed = language_flops(config.text_config, [10, 30])
    assert packed < language_flops(config.text_config, [40])
