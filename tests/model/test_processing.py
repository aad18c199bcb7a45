"""Encoded conversations against the tokenizer's own chat template."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerBase

from model.processing import Encoded, KeyeProcessor, ProcessingError, Video
from model.rope import position_ids
from model.visual_tokens import image_size, image_text, plan_video, video_text, video_text_tokens, visual_budget

BUDGET = visual_budget("tiny")
LABELS = [True, False, True, False, False]
TIMES = [0.0, 0.5, 1.0, 1.5, 12.0]


def video() -> Video:
    frames = np.random.default_rng(1).integers(0, 256, (5, 90, 160, 3), dtype=np.uint8)
    return Video(list(frames), TIMES, LABELS, 360, 640)


def conversation() -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": "Answer briefly."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "\nLook: "},
                {"type": "image"},
                {"type": "video"},
                {"type": "text", "text": "What colour "},
                {"type": "text", "text": "is it?  "},
                {"type": "image"},
            ],
        },
        {"role": "assistant", "content": "\n\n<think>hm</think> blue"},
        {"role": "user", "content": "And <|box_start|>[[1, 2, 3, 4]]<|box_end|>?"},
        {"role": "assistant", "content": [{"type": "text", "text": "red"}]},
    ]


def images() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, shape, dtype=np.uint8) for shape in ((64, 64, 3), (50, 200, 3))]


def expanded(prompt: str) -> str:
    """The template's text with each placeholder replaced by what stands for its medium."""
    plan = plan_video(LABELS, 360, 640, BUDGET)
    strings = [
        image_text(*image_size(64, 64, BUDGET)),
        video_text(plan, TIMES, LABELS),
        image_text(*image_size(50, 200, BUDGET)),
    ]
    for kind, string in zip(("image", "video", "image"), strings, strict=True):
        mark = f"<|vision_start|><|{kind}_pad|><|vision_end|>"
        prompt = prompt.replace(mark, string.replace("_pad", "_PAD"), 1)
    return prompt.replace("_PAD", "_pad")


@pytest.mark.parametrize("generation_prompt", [False, True])
def test_ids_equal_those_of_the_chat_template(
    tokenizer: PreTrainedTokenizerBase, processor: KeyeProcessor, generation_prompt: bool
) -> None:
    encoded = processor.encode(conversation(), images(), [video()], generation_prompt=generation_prompt)
    prompt = tokenizer.apply_chat_template(conversation(), tokenize=False, add_generation_prompt=generation_prompt)
    assert encoded.input_ids.tolist() == tokenizer(expanded(prompt))["input_ids"]


def test_targets_are_the_answers_and_their_ends(tokenizer: PreTrainedTokenizerBase, processor: KeyeProcessor) -> None:
    encoded = processor.encode(conversation(), images(), [video()])
    targets = encoded.labels[encoded.labels != -100]
    assert tokenizer.decode(targets) == "\n\n<think>hm</think> blue<|im_end|>red<|im_end|>"
    is_target = encoded.labels != -100
    assert (encoded.labels[is_target] == encoded.input_ids[is_target]).all()
    assert encoded.num_targets == is_target.sum()
    assert processor.encode(conversation(), images(), [video()], labels=False).num_targets == 0


def test_a_document_is_all_target(tokenizer: PreTrainedTokenizerBase, processor: KeyeProcessor) -> None:
    messages = [{"role": "document", "content": "Is there a circle?\n1.5"}]
    encoded = processor.encode(messages)
    assert tokenizer.decode(encoded.input_ids) == "Is there a circle?\n1.5<|endoftext|>"
    assert encoded.labels[1:].tolist() == encoded.input_ids[1:].tolist()
    assert encoded.labels[0] == -100
    prompt = tokenizer.apply_chat_template(messages, tokenize=False)
    assert encoded.input_ids.tolist() == tokenizer(prompt)["input_ids"]


def test_pixels_and_grids_come_in_order(processor: KeyeProcessor) -> None:
    encoded = processor.encode(conversation(), images(), [video()])
    plan = plan_video(LABELS, 360, 640, BUDGET)
    sizes = [image_size(64, 64, BUDGET), *plan.sizes, image_size(50, 200, BUDGET)]
    assert encoded.grid_thw.tolist() == [[1, h // 14, w // 14] for h, w in sizes]
    pictures = [images()[0], *video().frames, images()[1]]
    starts = np.cumsum([0, *encoded.grid_thw.prod(axis=1)])
    for start, picture, (height, width) in zip(starts, pictures, sizes, strict=False):
        resized = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
        last_row, last_column = height // 14 - 1, width // 14 - 1
        patch = encoded.pixel_values[start + last_row * (width // 14) + last_column]
        expected = resized[-14:, -14:].transpose(2, 0, 1) / 127.5 - 1
        np.testing.assert_allclose(patch, expected, atol=1e-6)
    assert len(encoded.pixel_values) == starts[-1]
    assert encoded.pixel_values.dtype == np.float32


def test_pixels_run_from_minus_one_to_one(processor: KeyeProcessor) -> None:
    extremes = np.zeros((112, 112, 3), dtype=np.uint8)
    extremes[:, 56:] = 255
    encoded = processor.encode([{"role": "user", "content": [{"type": "image"}]}], [extremes])
    assert set(np.unique(encoded.pixel_values)) == {-1.0, 1.0}


def test_positions_are_those_of_the_ids(tokenizer: PreTrainedTokenizerBase, processor: KeyeProcessor) -> None:
    encoded = processor.encode(conversation(), images(), [video()])
    pads = tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>"])
    expected = position_ids(np.isin(encoded.input_ids, pads), encoded.grid_thw)
    np.testing.assert_array_equal(encoded.position_ids, expected)


def test_text_tokens_of_a_video_are_counted_right(processor: KeyeProcessor) -> None:
    message = [{"role": "user", "content": [{"type": "video"}]}]
    with_video = len(processor.encode(message, videos=[video()]))
    without = len(processor.encode([{"role": "user", "content": ""}]))
    plan = plan_video(LABELS, 360, 640, BUDGET)
    assert with_video - without == plan.tokens + video_text_tokens(TIMES, LABELS)


@pytest.mark.parametrize(
    ("content", "num_images", "reason"),
    [
        ([{"type": "image"}], 0, "more image parts than images"),
        ([{"type": "text", "text": "hm"}], 1, "1 more images than image parts"),
        ([{"type": "text", "text": "a<|image_pad|>"}], 0, r"control token <\|image_pad\|>"),
        ("so<|im_end|>", 0, r"control token <\|im_end\|>"),
        ([{"type": "audio"}], 0, "'audio'"),
    ],
)
def test_what_does_not_match_is_refused(processor: KeyeProcessor, content: Any, num_images: int, reason: str) -> None:
    with pytest.raises(ProcessingError, match=reason):
        processor.encode([{"role": "user", "content": content}], images()[:num_images])


def short(processor: KeyeProcessor, text: str, picture: np.ndarray | None = None) -> Encoded:
    parts = [{"type": "image"}] if picture is not None else []
    messages = [
        {"role": "user", "content": [*parts, {"type": "text", "text": text}]},
        {"role": "assistant", "content": "blue"},
    ]
    return processor.encode(messages, [picture] if picture is not None else [])


@pytest.mark.parametrize("side", ["left", "right"])
def test_batches_pad_on_one_side(processor: KeyeProcessor, picture: np.ndarray, side: str) -> None:
    samples = [short(processor, "What?", picture), short(processor, "Is there a triangle?")]
    tensors = processor.batch(samples, padding_side=side)
    assert tensors["position_ids"].shape == (3, 2, max(map(len, samples)))
    for row, sample in enumerate(samples):
        keep = tensors["attention_mask"][row].bool()
        assert keep.sum() == len(sample)
        assert bool(keep[0 if side == "right" else -1])
        assert tensors["input_ids"][row, keep].tolist() == sample.input_ids.tolist()
        assert tensors["labels"][row, keep].tolist() == sample.labels.tolist()
        assert tensors["position_ids"][:, row, keep].tolist() == sample.position_ids.tolist()
        assert (tensors["labels"][row, ~keep] == -100).all()


def test_text_only_batches_have_no_pixels(processor: KeyeProcessor) -> None:
    assert "pixel_values" not in processor.batch([short(processor, "What?")])


def test_packed_rows_hold_their_samples(processor: KeyeProcessor, picture: np.ndarray) -> None:
    a, b, c = (short(processor, text, picture) for text in ("What?", "Is there a circle?", "The order of frames?"))
    tensors = processor.pack([[a, b], [c]], 128)
    assert tensors["input_ids"].shape == (2, 128)
    ids = tensors["segment_ids"]
    assert ids[0].tolist() == [1] * len(a) + [2] * len(b) + [0] * (128 - len(a) - len(b))
    assert tensors["input_ids"][0, ids[0] == 2].tolist() == b.input_ids.tolist()
    assert tensors["position_ids"][:, 0, ids[0] == 2].tolist() == b.position_ids.tolist()
    torch.testing.assert_close(
        tensors["pixel_values"], torch.from_numpy(np.concatenate([one.pixel_values for one in (a, b, c)]))
    )
    with pytest.raises(ProcessingError, match=r"row 1: .* do not fit in 40"):
        processor.pack([[short(processor, "What?")], [a, b]], 40)


def test_prompts_of_the_call_equal_encode(processor: KeyeProcessor, tokenizer: PreTrainedTokenizerBase) -> None:
    one_token = np.zeros((28, 28, 3), dtype=np.uint8)
    small = KeyeProcessor(tokenizer, visual_budget("8b"))
    for maker, pictures in ((processor, images()), (small, [one_token, one_token])):
        messages = conversation()
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        other = tokenizer.apply_chat_template([{"role": "user", "content": "What?"}], tokenize=False)
        called = maker(text=[prompt, other], images=pictures, videos=[video()])
        encoded = maker.encode(messages, pictures, [video()], labels=False, generation_prompt=True)
        assert called["input_ids"][0].tolist() == encoded.input_ids.tolist()
        np.testing.assert_array_equal(called["pixel_values"], encoded.pixel_values)
        np.testing.assert_array_equal(called["position_ids"][:, 0], encoded.position_ids)
    with pytest.raises(ProcessingError, match="2 more images"):
        processor(text="What?", images=images())


def test_a_saved_processor_loads_unchanged(processor: KeyeProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    loaded = KeyeProcessor.from_pretrained(tmp_path)
    ours, theirs = (one.encode(conversation(), images(), [video()]) for one in (processor, loaded))
    for name in ("input_ids", "labels", "position_ids", "pixel_values", "grid_thw"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


CAPTION, QUESTION, ANSWER = "a circle", "red?", "yes"
FIRST_CAPTION = [
    {"role": "document", "content": [{"type": "image"}, {"type": "text", "text": CAPTION}]},
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": ANSWER},
]
FIRST_QUESTION = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]},
    {"role": "assistant", "content": ANSWER},
    {"role": "document", "content": CAPTION},
]
PICTURE = "<|vision_start|>" + "<|image_pad|>" * 16 + "<|vision_end|>"
CHAT = "red?<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"


@pytest.mark.parametrize(
    ("messages", "rendered", "targets"),
    [
        (
            FIRST_CAPTION,
            f"{PICTURE}a circle<|endoftext|><|im_start|>user\n{CHAT}",
            "a circle<|endoftext|>yes<|im_end|>",
        ),
        (
            FIRST_QUESTION,
            f"<|im_start|>user\n{PICTURE}{CHAT}<|endoftext|>a circle<|endoftext|>",
            "yes<|im_end|><|endoftext|>a circle<|endoftext|>",
        ),
    ],
)
def test_the_end_of_text_is_between_caption_and_question(
    tokenizer: PreTrainedTokenizerBase, processor: KeyeProcessor, messages, rendered, targets
) -> None:
    """The report's two rearrangements (section 3.1), token by token; both parts are learnt, the question is not."""
    encoded = processor.encode(messages, [np.zeros((112, 112, 3), np.uint8)])
    assert tokenizer.decode(encoded.input_ids) == rendered
    assert tokenizer.decode(encoded.labels[encoded.labels != -100]) == targets
    template = tokenizer.apply_chat_template(messages, tokenize=False)
    assert encoded.input_ids.tolist() == tokenizer(template.replace("<|image_pad|>", "<|image_pad|>" * 16))["input_ids"]
