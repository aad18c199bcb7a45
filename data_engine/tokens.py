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
)


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
    """Token counts of one sample: exactly the length of what the processor builds from it."""
    budget = vt.visual_budget(counter.preset)
    shown = [
        _picture(sample, part, counter, sizes, budget)
        for message in sample.messages
        for part in message.parts
        if part.kind != "text"
    ]
    ids = _load(counter.tokenizer).encode(render(sample, [text for text, _, _ in shown]), add_special_tokens=False).ids
    pads = {_load(counter.tokenizer).token_to_id(pad) for pad in (vt.IMAGE_PAD, vt.VIDEO_PAD)}
    visual = sum(token in pads for token in ids)
    return {
        "id": sample.id,
        "preset": counter.preset,
        "text_tokens": len(ids) - visual,
        "visual_tokens": visual,
        "tokens": len(ids),
        "slow_frames": sum(slow for _, slow, _ in shown),
        "fast_frames": sum(fast for _, _, fast in shown),
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
) -> tuple[str, int, int]:
    """The string that stands for an image or video part, and its slow and fast frames."""
    spans = [sample.media[index] for index in part.media]
    if part.kind == "video":
        clip = clips.build(spans, counter.frames, fps=counter.fps, budget=budget)
        plan = vt.plan_video(clip.is_slow, clip.height, clip.width, budget)
        slow = sum(clip.is_slow)
        return vt.video_text(plan, clip.times, clip.is_slow), slow, len(clip.is_slow) - slow
    item = spans[0]
    if item.start is not None:
        clip = clips.build([item], counter.frames, fps=counter.fps, budget=budget)
        size = clip.height, clip.width
    else:
        size = shrunk(*sizes[item.key], counter.max_side)
    return vt.image_text(*vt.image_size(*size, budget)), 0, 0


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
