"""What the data engine counts is what the processor builds, on real samples of every kind."""

from pathlib import Path

from transformers import AutoTokenizer

from data_engine import sample as samples
from data_engine import tokens
from data_engine.stream import Stream
from model import visual_tokens as vt
from model.processing import KeyeProcessor
from train.feed.conversation import encode


def test_counts_equal_the_processors_lengths(small_run: Path) -> None:
    processor = KeyeProcessor(AutoTokenizer.from_pretrained(small_run / "tokenizer/tiny"), vt.visual_budget("tiny"))
    seen = set()
    for split in ("train", "heldout"):
        stream = Stream(small_run / "shards/manifest.json", seed=0, split=split)
        for index in range(len(stream.index)):
            item = stream.read(index)
            encoded = encode(processor, item.sample.messages, item.media)
            assert len(encoded.input_ids) == item.tokens, item.sample.id
            patches = encoded.grid_thw.prod(axis=1)
            told = [int(getattr(stream.index, name)[index]) for name in tokens.MIXED[1:]]
            assert told == [patches.sum() // 4, len(patches), (patches**2).sum()], item.sample.id
            seen.add((item.sample.modality, item.sample.task))
    assert {modality for modality, _ in seen} == {"video", "image", "text"} and len(seen) >= 8


def test_rendering_is_chatml() -> None:
    sample = samples.Sample(
        "c", "image", "vqa", (samples.user(samples.Part("image", media=(0,)), "red?"), samples.assistant("yes")),
        (samples.Media("image", "k"),),
    )  # fmt: skip
    assert tokens.render(sample, [vt.image_text(28, 56)]) == (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|image_pad|><|vision_end|>red?<|im_end|>\n"
        "<|im_start|>assistant\nyes<|im_end|>\n"
    )
    text = samples.Sample("c", "text", "text", (samples.document("words"),))
    assert tokens.render(text, []) == "words<|endoftext|>"
    chat = (samples.user("red?"), samples.assistant("yes"), samples.document("a circle"))
    assert tokens.render(samples.Sample("c", "text", "text", chat), []).endswith(
        "yes<|im_end|>\n<|endoftext|>a circle<|endoftext|>"
    )
