"""The whole model against transformers' Qwen3, and against itself by another route."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, Qwen3Config, Qwen3ForCausalLM

from model.modeling import KeyeForConditionalGeneration, config_of
from model.processing import Encoded, KeyeProcessor, Video


def pictures(number: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (40 + 8 * i, 64, 3), dtype=np.uint8) for i in range(number)]


def samples(processor: KeyeProcessor, **options: Any) -> list[Encoded]:
    """Text alone, an image, two images, and a video with slow and fast frames; all of different lengths."""
    texts = ["Is there a circle in the image?", "What?", "What colour is the shape?", "The order of the frames?"]
    media: list[list[str]] = [[], ["image"], ["image", "image"], ["video"]]
    clip = Video(pictures(3, seed=9), [0.0, 0.5, 1.0], [True, False, True], 90, 160)
    encoded = []
    for text, kinds in zip(texts, media, strict=True):
        content = [{"type": kind} for kind in kinds] + [{"type": "text", "text": text}]
        messages = [{"role": "user", "content": content}]
        if not options.get("generation_prompt"):
            messages.append({"role": "assistant", "content": "blue, a triangle"})
        videos = [clip] if "video" in kinds else []
        encoded.append(processor.encode(messages, pictures(kinds.count("image")), videos, **options))
    return encoded


def inputs(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name != "labels"}


def test_text_alone_is_qwen3(model: KeyeForConditionalGeneration) -> None:
    """Oracle: transformers' Qwen3ForCausalLM with the same weights."""
    shared = model.config.text_config.to_dict()
    rope = {"rope_type": "default", "rope_theta": shared["rope_parameters"]["rope_theta"]}
    dropped = ("model_type", "architectures", "rope_parameters", "_attn_implementation")
    settings = {name: value for name, value in shared.items() if name not in dropped}
    qwen = Qwen3ForCausalLM(Qwen3Config(**settings, rope_parameters=rope)).eval()
    qwen.model.load_state_dict(model.model.state_dict())
    ids = torch.randint(0, 256, (3, 17))
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    ours = model(ids, positions.expand(3, -1, -1), mask).logits
    theirs = qwen(ids, attention_mask=mask, position_ids=positions).logits
    torch.testing.assert_close(ours[mask.bool()], theirs[mask.bool()], rtol=0, atol=1e-5)


def test_packed_rows_equal_separate_samples(model: KeyeForConditionalGeneration, processor: KeyeProcessor) -> None:
    """Forward, loss and gradients: the sum over packed rows is the sum over the samples alone."""
    a, b, c, d = samples(processor)
    packed = model(**processor.pack([[a, b], [c, d]], 256))
    (packed.loss * packed.num_targets).backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    alone = [model(**processor.batch([one])) for one in (a, b, c, d)]
    total = sum(one.loss * one.num_targets for one in alone)
    total.backward()
    assert int(packed.num_targets) == sum(int(one.num_targets) for one in alone) == a.num_targets * 4
    torch.testing.assert_close(packed.loss * packed.num_targets, total, rtol=1e-6, atol=1e-5)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=2e-4)


@torch.no_grad()
def test_packed_logits_are_those_alone(model: KeyeForConditionalGeneration, processor: KeyeProcessor) -> None:
    """To a millionth of the largest: text, an image, two images and a video in two rows."""
    one = samples(processor)
    tensors = inputs(processor.pack([one[:3], one[3:]], 256))
    packed = model(**tensors).logits
    for sample, (row, segment) in zip(one, [(0, 1), (0, 2), (0, 3), (1, 1)], strict=True):
        alone = model(**inputs(processor.batch([sample]))).logits[0]
        found = packed[row, tensors["segment_ids"][row] == segment]
        torch.testing.assert_close(found, alone, rtol=0, atol=1e-6 * float(alone.abs().max()))


def test_packed_logits_equal_a_dense_block_mask(model: KeyeForConditionalGeneration, processor: KeyeProcessor) -> None:
    """Oracle for attention by segments: the dense block-diagonal mask through transformers' own SDPA."""
    tensors = inputs(processor.pack([samples(processor)[:3], samples(processor)[3:]], 256))
    ids = tensors.pop("segment_ids")
    packed = model(**tensors, segment_ids=ids).logits
    causal = torch.ones(256, 256, dtype=torch.bool).tril()
    mask = ((ids[:, :, None] == ids[:, None, :]) & causal)[:, None]
    dense = model(**tensors, attention_mask=mask).logits
    torch.testing.assert_close(packed[ids > 0], dense[ids > 0], rtol=0, atol=2e-5)


def test_no_sample_sees_its_neighbour(model: KeyeForConditionalGeneration, processor: KeyeProcessor) -> None:
    a, b, c, _ = samples(processor)
    before = model(**inputs(processor.pack([[a, b]], 256))).logits[0, len(a) : len(a) + len(b)]
    other = Encoded(a.input_ids[::-1].copy(), a.labels, a.position_ids, a.pixel_values, a.grid_thw)
    after = model(**inputs(processor.pack([[other, b, c]], 256))).logits[0, len(a) : len(a) + len(b)]
    torch.testing.assert_close(before, after, rtol=0, atol=1e-6)


def test_no_token_sees_the_future(model: KeyeForConditionalGeneration) -> None:
    ids = torch.randint(0, 256, (1, 12))
    changed = ids.clone()
    changed[0, 8:] = ids[0, 8:].flip(0) + 1
    torch.testing.assert_close(model(ids).logits[:, :8], model(changed).logits[:, :8], rtol=0, atol=1e-6)


def test_the_image_changes_the_answer(model: KeyeForConditionalGeneration, processor: KeyeProcessor) -> None:
    tensors = inputs(processor.batch(samples(processor)[1:2]))
    shuffled = {**tensors, "pixel_values": tensors["pixel_values"].flip(0)}
    assert (model(**tensors).logits[:, -1] - model(**shuffled).logits[:, -1]).abs().max() > 1e-3


def test_loss_is_the_mean_over_targets(model: KeyeForConditionalGeneration, processor: KeyeProcessor) -> None:
    """Closed form from the full logits; nothing outside the targets counts."""
    tensors = processor.batch(samples(processor))
    output = model(**tensors)
    log_probabilities = model(**inputs(tensors)).logits.log_softmax(-1)
    labels = tensors["labels"][:, 1:]
    picked = log_probabilities[:, :-1].gather(2, labels.clamp(min=0)[..., None])[..., 0]
    is_target = labels != -100
    torch.testing.assert_close(output.loss, -picked[is_target].mean())
    assert int(output.num_targets) == int(is_target.sum())


def test_without_targets_the_loss_is_zero(model: KeyeForConditionalGeneration) -> None:
    ids = torch.randint(0, 256, (1, 6))
    output = model(ids, labels=torch.full_like(ids, -100))
    assert output.loss.item() == 0
    assert int(output.num_targets) == 0


def test_cached_decoding_equals_the_full_forward(model: KeyeForConditionalGeneration, processor: KeyeProcessor) -> None:
    """Greedy `generate` with a cache, prompts of different lengths padded on the left, images and video."""
    prompts = samples(processor, labels=False, generation_prompt=True)
    tensors = inputs(processor.batch(prompts, padding_side="left"))
    settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    batched = model.generate(**tensors, **settings)[:, tensors["input_ids"].shape[1] :]
    banned = model.generation_config.suppress_tokens
    for row, prompt in enumerate(prompts):
        alone = inputs(processor.batch([prompt]))
        del alone["attention_mask"]
        for step in range(6):
            logits = model(**alone).logits[0, -1]
            logits[banned] = -torch.inf
            assert int(logits.argmax()) == int(batched[row, step])
            alone["input_ids"] = torch.cat([alone["input_ids"], batched[row : row + 1, step : step + 1]], dim=1)
            following = alone["position_ids"].max() + 1
            alone["position_ids"] = torch.cat([alone["position_ids"], following.expand(3, 1, 1)], dim=2)


def test_left_padding_changes_no_logit(model: KeyeForConditionalGeneration, processor: KeyeProcessor) -> None:
    prompts = samples(processor, labels=False, generation_prompt=True)
    batched = model(**inputs(processor.batch(prompts, padding_side="left"))).logits
    for row, prompt in enumerate(prompts):
        alone = model(**inputs(processor.batch([prompt]))).logits[0]
        scale = alone.abs().max().item()
        torch.testing.assert_close(batched[row, -len(prompt) :], alone, rtol=0, atol=2e-6 * scale)


def test_generation_never_writes_a_placeholder(model: KeyeForConditionalGeneration, processor: KeyeProcessor) -> None:
    prompt = inputs(processor.batch(samples(processor, labels=False, generation_prompt=True)[1:2]))
    with torch.no_grad():
        model.lm_head.weight[model.config.image_token_id] *= 50
    out = model.generate(**prompt, max_new_tokens=20, do_sample=True)[0, prompt["input_ids"].shape[1] :]
    assert model.config.image_token_id not in out.tolist()


def test_a_placeholder_mismatch_names_both_counts(
    model: KeyeForConditionalGeneration, processor: KeyeProcessor
) -> None:
    tensors = processor.batch(samples(processor)[1:2])
    placeholders = int((tensors["input_ids"] == model.config.image_token_id).sum())
    with pytest.raises(ValueError, match=f"{placeholders} visual placeholders .* {2 * placeholders} visual"):
        model(**{**tensors, "grid_thw": tensors["grid_thw"].repeat(2, 1)})
    del tensors["pixel_values"], tensors["grid_thw"]
    with pytest.raises(ValueError, match=f"{placeholders} visual placeholders .* 0 visual"):
        model(**tensors)


def test_frozen_parts_keep_no_activations(model: KeyeForConditionalGeneration, processor: KeyeProcessor) -> None:
    tensors = processor.batch(samples(processor)[1:2])
    pixels = tensors["pixel_values"], tensors["grid_thw"]
    assert model.visual_features(*pixels).requires_grad
    model.visual.requires_grad_(False)
    kept: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.shape) or x, lambda x: x):
        assert model.visual_features(*pixels).requires_grad
        assert len(kept) < 12
        model.mlp_AR.requires_grad_(False)
        kept.clear()
        assert not model.visual_features(*pixels).requires_grad
        assert not kept
    model(**tensors).loss.backward()
    assert model.model.embed_tokens.weight.grad is not None


def test_a_saved_model_loads_bit_exact(
    model: KeyeForConditionalGeneration, processor: KeyeProcessor, tmp_path: Path
) -> None:
    tensors = inputs(processor.pack([samples(processor)], 400))
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    assert isinstance(loaded, KeyeForConditionalGeneration)
    state, other = model.state_dict(), loaded.state_dict()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert torch.equal(model(**tensors).logits, loaded(**tensors).logits)
    assert loaded.generation_config.suppress_tokens == model.generation_config.suppress_tokens


def test_keys_are_those_of_the_published_checkpoint(model: KeyeForConditionalGeneration) -> None:
    keys = set(model.state_dict())
    assert {key.split(".")[0] for key in keys} == {"visual", "mlp_AR", "model", "lm_head"}
    assert {
        "visual.vision_model.embeddings.patch_embedding.weight",
        "visual.vision_model.embeddings.position_embedding.weight",
        "visual.vision_model.encoder.layers.0.self_attn.out_proj.bias",
        "visual.vision_model.encoder.layers.0.mlp.fc1.weight",
        "visual.vision_model.post_layernorm.weight",
        "mlp_AR.pre_norm.weight",
        "mlp_AR.linear_1.weight",
        "mlp_AR.linear_2.bias",
        "model.layers.0.self_attn.q_norm.weight",
        "model.norm.weight",
        "lm_head.weight",
    } <= keys


def closed_form(vision: Any, text: Any) -> int:
    """Parameters of the architecture, counted from its sizes."""
    d, f, positions = vision.hidden_size, vision.intermediate_size, vision.table_side**2
    block = 4 * (d * d + d) + 2 * d * f + f + d + 4 * d
    tower = 3 * 14 * 14 * d + d + positions * d + vision.num_hidden_layers * block + 2 * d
    h, m = text.hidden_size, 4 * d
    projector = 2 * m + m * m + m + m * h + h
    heads, kv, width = text.num_attention_heads, text.num_key_value_heads, text.head_dim
    layer = 2 * h * heads * width + 2 * h * kv * width + 2 * width + 3 * h * text.intermediate_size + 2 * h
    words = text.vocab_size * h * (1 if text.tie_word_embeddings else 2)
    return tower + projector + words + text.num_hidden_layers * layer + h


@pytest.mark.parametrize("preset", ["tiny", "0.1b", "8b"])
def test_presets_have_the_parameters_their_sizes_say(preset: str) -> None:
    config = config_of(preset)
    with torch.device("meta"):
        model = KeyeForConditionalGeneration(config)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == closed_form(config.vision_config, config.text_config)
    if preset == "8b":
        language = sum(p.numel() for part in (model.model, model.lm_head) for p in part.parameters())
        assert language == 8_190_735_360
