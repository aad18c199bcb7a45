"""`generate` and decoding by hand, each against full forward passes without a cache."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from model.modeling import KeyeForConditionalGeneration
from model.processing import Encoded, KeyeProcessor
from tests.model.test_modeling import inputs, pictures, samples


def prompts(processor: KeyeProcessor) -> list[Encoded]:
    return samples(processor, labels=False, generation_prompt=True)


def left_padded(processor: KeyeProcessor) -> dict[str, torch.Tensor]:
    return inputs(processor.batch(prompts(processor), padding_side="left"))


def log_probabilities(model: KeyeForConditionalGeneration, prompt: dict[str, torch.Tensor], answer: Any) -> float:
    """Sum over `answer` of each token's log-probability; no cache."""
    ids = torch.cat([prompt["input_ids"], answer[None]], dim=1)
    visual = {name: prompt[name] for name in ("pixel_values", "grid_thw") if name in prompt}
    logits = model(ids, **visual).logits[0, prompt["input_ids"].shape[1] - 1 : -1]
    return float(logits.log_softmax(-1).gather(1, answer[:, None]).sum())


@torch.no_grad()
def test_without_positions_the_model_counts_them(model: KeyeForConditionalGeneration, processor: KeyeProcessor) -> None:
    tensors = left_padded(processor)
    real = tensors["attention_mask"].bool()
    given = model(**tensors).logits
    counted = model(**{name: tensor for name, tensor in tensors.items() if name != "position_ids"}).logits
    torch.testing.assert_close(counted[real], given[real], rtol=0, atol=0)


@torch.no_grad()
def test_decoding_by_hand_with_a_cache_equals_the_full_forward(
    model: KeyeForConditionalGeneration, processor: KeyeProcessor
) -> None:
    """Each step feeds one token with the first pass's `rope_deltas`; rows padded on the left, images and video."""
    tensors = left_padded(processor)
    mask = tensors["attention_mask"]
    del tensors["position_ids"]
    output = model(**tensors, use_cache=True)
    ids, deltas = tensors["input_ids"], output.rope_deltas
    for _ in range(4):
        following = output.logits[:, -1:].argmax(-1)
        ids, mask = torch.cat([ids, following], dim=1), torch.nn.functional.pad(mask, (0, 1), value=1)
        output = model(following, attention_mask=mask, past_key_values=output.past_key_values, rope_deltas=deltas)
        whole = model(**{**tensors, "input_ids": ids, "attention_mask": mask}).logits[:, -1]
        torch.testing.assert_close(output.logits[:, -1], whole, rtol=0, atol=2e-5)
    with pytest.raises(ValueError, match="rope_deltas"):
        model(following, attention_mask=mask, past_key_values=output.past_key_values)


@torch.no_grad()
def test_beams_find_what_their_own_scores_say(model: KeyeForConditionalGeneration, processor: KeyeProcessor) -> None:
    """Oracle: the score of each returned beam, from full passes over the prompt with its own pictures."""
    settings = {"max_new_tokens": 4, "num_beams": 3, "num_return_sequences": 2, "do_sample": False}
    tensors = left_padded(processor)
    found = model.generate(
        **tensors, **settings, eos_token_id=None, return_dict_in_generate=True, output_scores=True, length_penalty=0.0
    )
    answers = found.sequences[:, tensors["input_ids"].shape[1] :].view(4, 2, -1)
    scores = found.sequences_scores.view(4, 2)
    for row, prompt in enumerate(prompts(processor)):
        alone = inputs(processor.batch([prompt]))
        for beam in range(2):
            expected = log_probabilities(model, alone, answers[row, beam])
            assert float(scores[row, beam]) == pytest.approx(expected, abs=1e-4)
        greedy = model.generate(**alone, max_new_tokens=4, do_sample=False, eos_token_id=None)[0, len(prompt) :]
        assert float(scores[row, 0]) >= log_probabilities(model, alone, greedy) - 1e-4


@torch.no_grad()
def test_several_samples_of_a_prompt_encode_its_pictures_once(
    model: KeyeForConditionalGeneration, processor: KeyeProcessor
) -> None:
    tensors = left_padded(processor)
    encoded: list[int] = []
    hook = model.visual.register_forward_hook(lambda _, arguments, __: encoded.append(len(arguments[0])))
    out = model.generate(**tensors, max_new_tokens=3, do_sample=True, num_return_sequences=3, eos_token_id=None)
    hook.remove()
    assert out.shape[0] == 12
    assert encoded == [len(tensors["pixel_values"])]
    assert torch.equal(out[:, : tensors["input_ids"].shape[1]], tensors["input_ids"].repeat_interleave(3, dim=0))


def test_greedy_and_beams_never_write_a_placeholder(
    model: KeyeForConditionalGeneration, processor: KeyeProcessor
) -> None:
    """Not even with a generation config that bans nothing."""
    pads = [model.config.image_token_id, model.config.video_token_id]
    with torch.no_grad():
        model.model.norm.weight.fill_(1.0)
        model.lm_head.weight[pads] *= 50
    tensors = left_padded(processor)
    start = tensors["input_ids"].shape[1]
    plain = GenerationConfig(max_new_tokens=8, pad_token_id=model.generation_config.pad_token_id)
    assert bool(torch.isin(model(**tensors).logits[:, -1].argmax(-1), torch.tensor(pads)).any())
    for settings in ({}, {"num_beams": 2}, {"do_sample": True}):
        out = model.generate(**tensors, generation_config=plain, **settings)[:, start:]
        assert not torch.isin(out, torch.tensor(pads)).any()


def test_a_mismatch_names_the_row(model: KeyeForConditionalGeneration, processor: KeyeProcessor) -> None:
    tensors = left_padded(processor)
    placeholders = model.is_visual(tensors["input_ids"]).sum(dim=1).tolist()
    wrong = {**tensors, "grid_thw": tensors["grid_thw"].flip(0)}
    with pytest.raises(ValueError, match=rf"row 1: {placeholders[1]} visual placeholders .* visual features"):
        model(**wrong)


@torch.no_grad()
def test_features_encoded_before_stand_in_for_pictures(
    model: KeyeForConditionalGeneration, processor: KeyeProcessor
) -> None:
    tensors = inputs(processor.batch(samples(processor)))
    pixels, grids = tensors.pop("pixel_values"), tensors["grid_thw"]
    features = model.visual_features(pixels, grids)
    expected = model(**tensors, pixel_values=pixels).logits
    assert torch.equal(model(**tensors, visual_embeds=features).logits, expected)
    with pytest.raises(ValueError, match=f"{len(features)} visual placeholders, {len(features) - 1} visual_embeds"):
        model(**tensors, visual_embeds=features[1:])


@torch.no_grad()
def test_videos_with_and_without_fast_frames_share_a_batch(
    model: KeyeForConditionalGeneration, processor: KeyeProcessor
) -> None:
    """Several images and several videos in one prompt, beside a prompt whose video is all slow."""
    from model.processing import Video

    mixed = Video(pictures(3), [0.0, 0.5, 1.0], [True, False, False], 90, 160)
    slow = Video(pictures(2, seed=5), [0.0, 0.5], [True, True], 90, 160)
    titled: list[dict[str, Any]] = [{"type": "text", "text": "Title: a circle\n"}, {"type": "video"}]
    messages = [
        [{"role": "user", "content": [*titled, {"type": "image"}, {"type": "video"}, {"type": "image"}]}],
        [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What?"}]}],
        [{"role": "user", "content": "What colour is the shape?"}],
    ]
    media: list[tuple[list[np.ndarray], list[Video]]] = [(pictures(2), [mixed, slow]), ([], [slow]), ([], [])]
    encoded = [
        processor.encode(one, *of, generation_prompt=True, labels=False)
        for one, of in zip(messages, media, strict=True)
    ]
    batched = model(**inputs(processor.batch(encoded, padding_side="left"))).logits
    for row, one in enumerate(encoded):
        alone = model(**inputs(processor.batch([one]))).logits[0]
        torch.testing.assert_close(batched[row, -len(one) :], alone, rtol=0, atol=2e-5)
