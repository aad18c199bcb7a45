"""How many tokens the model spends on a sample: words by its tokenizer, pictures by its visual budget."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from tokenizers import Tokenizer

from data_engine import clips
from data_engine import sample as samples
from data_engine.media import shrunk
from data_engine.sample import Part, Sample
from model import visual_tokens as vt

SCHEMA = pa.schema(
    [("id", pa.string()), ("preset", pa.string()), ("text_tokens", pa.int64()), ("visual_tokens", pa.int64())]
    + [("tokens", pa.int64()), ("slow_frames", pa.int32()), ("fast_frames", pa.int32())]
    + [("pictures", pa.int32()), ("squared_patches", pa.int64())]
)
MIXED = ("tokens", "visual_tokens", "pictures", "squared_patches")
"""The counts that go with a sample into its shard's index: what mixing, packing and balancing go by."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The string that stands for an image or a video; the visual tokens of each of its pictures; slow, fast frames."""

    text: str
    tokens: Sequence[int]
    slow: int = 0
    fast: int = 0


@dataclass(frozen=True, slots=True)
class Counter:
    """What counting needs: the preset, its tokenizer folder, the frames table, and the shard's size cap."""

    preset: str
    tokenizer: Path
    frames: Path
    fps: float
    max_side: int | None


def count_partition(table: pa.Table, *, counter: Counter, sizes: Mapping[str, tuple[int, int]]) -> dict[str, pa.Table]:
    """Samples to the table `tokens`. `sizes` maps a media key to (height, width) of the original image."""
    rows = [count(sample, counter, sizes) for sample in samples.from_table(table)]
    return {"tokens": pa.Table.from_pylist(rows, schema=SCHEMA)}


def count(sample: Sample, counter: Counter, sizes: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """Token counts of one sample: exactly the length of what the processor builds from it.

    `pictures`: images and frames. `squared_patches`: the sum over them of the square of each one's patches (a visual
    token is `merge` x `merge` of them), which attention within pictures goes by.
    """
    budget = vt.visual_budget(counter.preset)
    shown = [
        _picture(sample, part, counter, sizes, budget)
        for message in sample.messages
        for part in message.parts
        if part.kind != "text"
    ]
    ids = _load(counter.tokenizer).encode(render(sample, [one.text for one in shown]), add_special_tokens=False).ids
    pads = {_load(counter.tokenizer).token_to_id(pad) for pad in (vt.IMAGE_PAD, vt.VIDEO_PAD)}
    visual = sum(token in pads for token in ids)
    patches = [tokens * budget.merge**2 for one in shown for tokens in one.tokens]
    return {
        "id": sample.id,
        "preset": counter.preset,
        "text_tokens": len(ids) - visual,
        "visual_tokens": visual,
        "tokens": len(ids),
        "slow_frames": sum(one.slow for one in shown),
        "fast_frames": sum(one.fast for one in shown),
        "pictures": len(patches),
        "squared_patches": sum(number * number for number in patches),
    }


@functools.lru_cache(maxsize=2)
def _load(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _picture(
    sample: Sample,
    part: Part,
    counter: Counter,
    sizes: Mapping[str, tuple[int, int]],
    budget: vt.VisualBudget,
) -> Shown:
    """What an image or video part becomes."""
    spans = [sample.media[index] for index in part.media]
    if part.kind == "video":
        clip = clips.build(spans, counter.frames, fps=counter.fps, budget=budget)
        plan = vt.plan_video(clip.is_slow, clip.height, clip.width, budget)
        slow = sum(clip.is_slow)
        tokens = [vt.num_tokens(size, budget.factor) for size in plan.sizes]
        return Shown(vt.video_text(plan, clip.times, clip.is_slow), tokens, slow, len(clip.is_slow) - slow)
    item = spans[0]
    if item.start is not None:
        clip = clips.build([item], counter.frames, fps=counter.fps, budget=budget)
        size = clip.height, clip.width
    else:
        size = shrunk(*sizes[item.key], counter.max_side)
    resized = vt.image_size(*size, budget)
    return Shown(vt.image_text(*resized), [vt.num_tokens(resized, budget.factor)])


def render(sample: Sample, pictures: Sequence[str]) -> str:
    """The whole prompt and answer as one string, in ChatML; `pictures` stand in order of appearance.

    `<|endoftext|>` ends a document, and a chat that a document follows.
    """
    waiting = iter(pictures)
    pieces = []
    in_chat = False
    for message in sample.messages:
        content = "".join(part.text or "" if part.kind == "text" else next(waiting) for part in message.parts)
        if message.role == "document":
            pieces.append((vt.END_OF_TEXT if in_chat else "") + content + vt.END_OF_TEXT)
        else:
            pieces.append(f"{vt.IM_START}{message.role}\n{content}{vt.IM_END}\n")
        in_chat = message.role != "document"
    return "".join(pieces)
