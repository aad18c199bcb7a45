"""Replies as the report prints them, and the switch of the chat template."""

from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from model.processing import KeyeProcessor
from model.thinking import Mode, Reply, last_boxed, parse_reply


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("blue", Reply(None, None, "blue")),
        ("<think>a\nb</think> <answer>\\boxed{7}</answer>", Reply(None, "a\nb", "7")),
        ("<think>x</think><answer>so 7</answer>", Reply(None, "x", "so 7")),
        ("<analysis>Easy: /no_think mode.</analysis>blue", Reply("Easy: /no_think mode.", None, "blue")),
        (
            "<analysis>hard</analysis><think>1 <answer>no</answer></think><answer>a</answer> or <answer>b</answer>",
            Reply("hard", "1 <answer>no</answer>", "b"),
        ),
        ("so \\boxed{1} and then \\boxed{\\frac{1}{2}} holds", Reply(None, None, "\\frac{1}{2}")),
        ("<think>never closed", Reply(None, None, "<think>never closed")),
        ("<think>a</think>b</think> c", Reply(None, "a</think>b", "c")),
        ("", Reply(None, None, "")),
    ],
)  # fmt: skip
def test_replies_are_read_by_the_rule(text: str, reply: Reply) -> None:
    assert parse_reply(text) == reply


def test_an_open_box_is_no_box() -> None:
    assert last_boxed("\\boxed{a} \\boxed{b {") == "a"
    assert last_boxed("\\boxed{b {") is None


@pytest.mark.parametrize(("mode", "suffix"), [("auto", ""), ("think", "/think"), ("no_think", "/no_think")])
@pytest.mark.parametrize(
    "content",
    [
        "What?",
        [{"type": "text", "text": "Look: "}, {"type": "image"}],
        [{"type": "image"}, {"type": "text", "text": "What "}, {"type": "text", "text": "is it?"}, {"type": "image"}],
        [{"type": "image"}],
    ],
)
def test_the_switch_ends_the_last_text_of_the_last_question(
    tokenizer: PreTrainedTokenizerBase, processor: KeyeProcessor, mode: Mode, suffix: str, content: Any
) -> None:
    """The template and `encode` agree, and differ from auto by the suffix alone."""
    import numpy as np

    messages = [
        {"role": "user", "content": "Is there a circle?"},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": content},
    ]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, thinking=mode)
    plain = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt.count(suffix) >= 1
    assert prompt.replace(suffix, "", 1) == plain if suffix else prompt == plain
    if suffix and not isinstance(content, str) and content[-1]["type"] == "image" and len(content) > 1:
        assert prompt.endswith(
            f"{suffix}<|vision_start|><|image_pad|><|vision_end|><|im_end|>\n<|im_start|>assistant\n"
        )
    pictures = [np.zeros((112, 112, 3), dtype=np.uint8)] * plain.count("<|image_pad|>")
    encoded = processor.encode(messages, pictures, labels=False, generation_prompt=True, thinking=mode)
    assert encoded.input_ids.tolist() == processor(prompt, pictures)["input_ids"][0].tolist()
