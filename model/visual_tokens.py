"""What an image or a video costs in tokens, and which string stands for it in the prompt.

The one place that counts visual tokens: the processor builds what is promised here, and the data
engine mixes and packs by it. One language-model token is a 28 x 28 pixel square (a 14-pixel patch,
merged 2 x 2). Needs yaml only. Sources: Keye-VL-1.5 report (arXiv 2509.01563, section 2)
and its released `keye_vl_utils`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

END_OF_TEXT = "<|endoftext|>"
IM_START, IM_END = "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"
FRAME, FAST_START, FAST_END = "<|frame|>", "<|fast_start|>", "<|fast_end|>"

GROUNDING_TOKENS = tuple(
    f"<|{name}_{end}|>"
    for name in ("object_ref", "box", "point", "polygon", "ocr_text", "clip_time")
    for end in ("start", "end")
)
"""Marks around grounded text (report, table 1). They may occur in any text."""

CONTROL_TOKENS = (
    *(END_OF_TEXT, IM_START, IM_END, VISION_START, VISION_END),
    *(IMAGE_PAD, VIDEO_PAD, FRAME, FAST_START, FAST_END),
)
"""Tokens that only the processor writes: text that contains one is refused."""

SPECIAL_TOKENS: tuple[str, ...] = (*CONTROL_TOKENS, *GROUNDING_TOKENS)

MAX_ASPECT_RATIO = 200
PRESETS = Path(__file__).parent / "presets"

Size = tuple[int, int]
"""Height and width in pixels."""


class VisualTokenError(ValueError):
    """An image or a video that cannot be shown to the model: the message says which bound it breaks."""


@dataclass(frozen=True, slots=True)
class VisualBudget:
    """Every constant of visual token counting. Token counts are language-model tokens (28 x 28 px).

    `frame_min_tokens` is a floor for upscaling small frames: a frame goes below it only when the total would
    otherwise not fit. `fps` and `max_frames` are what samplers of frames use.
    """

    image_min_tokens: int = 4
    image_max_tokens: int = 20_480
    fps: float = 2.0
    video_total_tokens: int = 75_000
    frame_min_tokens: int = 48
    frame_max_tokens: int = 768
    fast_ratio: float = 0.3
    similarity: float = 0.95
    max_frames: int = 1024
    patch: int = 14
    merge: int = 2

    @property
    def factor(self) -> int:
        """Side of the square of pixels that one token stands for."""
        return self.patch * self.merge


@dataclass(frozen=True, slots=True)
class VideoPlan:
    """The pixel size of every frame, of a slow and of a fast frame, and the visual tokens of all frames."""

    sizes: list[Size]
    slow: Size
    fast: Size
    tokens: int


@cache
def load_preset(preset: str) -> dict[str, Any]:
    """`model/presets/<preset>.yaml` as plain data. Raises ValueError that lists the presets there are."""
    path = PRESETS / f"{preset}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in PRESETS.glob("*.yaml")))
        raise ValueError(f"no model preset {preset!r}; there are: {known}")
    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return data


def visual_budget(preset: str) -> VisualBudget:
    """The `visual` section of a preset. Raises ValueError for an unknown preset or key."""
    section = load_preset(preset).get("visual", {})
    known = [field.name for field in fields(VisualBudget)]
    unknown = sorted(set(section) - set(known))
    if unknown:
        raise ValueError(f"preset {preset}: visual.{unknown[0]}: unknown key; known keys: {', '.join(known)}")
    return VisualBudget(**section)


def smart_resize(height: int, width: int, *, min_pixels: int, max_pixels: int, factor: int = 28) -> tuple[int, int]:
    """The size near `height` x `width` whose sides are multiples of `factor` and whose area is in bounds.

    Keeps the aspect ratio as well as the grid allows. The released formula, with Python's banker's rounding.
    Raises VisualTokenError for an empty side or an aspect ratio over 200.
    """
    if min(height, width) < 1:
        raise VisualTokenError(f"{width} x {height} pixels: both sides must be at least 1")
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise VisualTokenError(f"{width} x {height} pixels: aspect ratio over {MAX_ASPECT_RATIO}; crop it first")
    rows, columns = max(1, round(height / factor)), max(1, round(width / factor))
    if rows * columns * factor**2 > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows, columns = math.floor(height / shrink / factor), math.floor(width / shrink / factor)
    elif rows * columns * factor**2 < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows, columns = math.ceil(height * grow / factor), math.ceil(width * grow / factor)
    return max(1, rows) * factor, max(1, columns) * factor


def image_size(height: int, width: int, budget: VisualBudget) -> Size:
    """The pixel size an image is resized to; it costs `num_tokens(size, budget)` tokens."""
    area = budget.factor**2
    return smart_resize(
        height,
        width,
        min_pixels=budget.image_min_tokens * area,
        max_pixels=budget.image_max_tokens * area,
        factor=budget.factor,
    )


def num_tokens(size: Size, factor: int = 28) -> int:
    """Language-model tokens of one image or frame of `size` (height, width), already resized."""
    return (size[0] // factor) * (size[1] // factor)


def plan_video(is_slow: Sequence[bool], height: int, width: int, budget: VisualBudget) -> VideoPlan:
    """Sizes for all frames of a video of `height` x `width` pixels, never over `video_total_tokens`.

    Binary search for the largest number of tokens per slow frame whose real total, counted on the
    resized grids, fits (report, section 2.2). The total grows with that number, so the search finds
    the best. A fast frame gets `fast_ratio` of a slow frame's real tokens, rounded down to the grid.
    Raises VisualTokenError when there are no frames, the first is not slow, there are more than
    `max_frames`, or even frames of one token do not fit.
    """
    if not is_slow or not is_slow[0]:
        raise VisualTokenError("a video needs at least one frame, and its first frame must be slow")
    if len(is_slow) > budget.max_frames:
        raise VisualTokenError(f"{len(is_slow)} frames, at most {budget.max_frames}; sample fewer a second")
    num_slow = sum(map(bool, is_slow))
    num_fast = len(is_slow) - num_slow

    def total(tokens: int) -> int:
        slow, fast = frame_sizes(tokens, height, width, budget)
        return num_slow * num_tokens(slow, budget.factor) + num_fast * num_tokens(fast, budget.factor)

    low, high = 1, max(budget.frame_max_tokens, 1)
    if total(low) > budget.video_total_tokens:
        raise VisualTokenError(
            f"{len(is_slow)} frames of {width} x {height} pixels need at least {total(low)} tokens, "
            f"the budget is {budget.video_total_tokens}; sample fewer frames a second"
        )
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if total(middle) <= budget.video_total_tokens else (low, middle - 1)
    slow, fast = frame_sizes(low, height, width, budget)
    return VideoPlan([slow if label else fast for label in is_slow], slow, fast, total(low))


def frame_sizes(tokens: int, height: int, width: int, budget: VisualBudget) -> tuple[Size, Size]:
    """Pixel sizes of a slow frame of at most `tokens` tokens, and of the fast frame that goes with it.

    Only a frame under `frame_min_tokens` is enlarged, and only up to it.
    """
    factor, area = budget.factor, budget.factor**2
    floor = min(tokens, budget.frame_min_tokens)
    slow = smart_resize(height, width, min_pixels=floor * area, max_pixels=tokens * area, factor=factor)
    share = max(1, int(budget.fast_ratio * num_tokens(slow, factor)))
    return slow, smart_resize(height, width, min_pixels=area, max_pixels=share * area, factor=factor)


def image_text(height: int, width: int) -> str:
    """The string that stands for an image already resized to `height` x `width` pixels."""
    return f"{VISION_START}{IMAGE_PAD * num_tokens((height, width))}{VISION_END}"


def video_text(plan: VideoPlan, times: Sequence[float], is_slow: Sequence[bool]) -> str:
    """The string that stands for a video: each frame after its mark and its time in seconds.

    Slow `<|frame|>0.0<|video_pad|>*n`; fast frames have their pads inside `<|fast_start|>`, `<|fast_end|>`.
    """
    frames = [
        frame_text(time, num_tokens(size), slow) for time, size, slow in zip(times, plan.sizes, is_slow, strict=True)
    ]
    return f"{VISION_START}{''.join(frames)}{VISION_END}"


def frame_text(time: float, tokens: int, is_slow: bool) -> str:
    """One frame's part of the string that stands for a video."""
    pads = VIDEO_PAD * tokens
    return f"{FRAME}{time:.1f}{pads}" if is_slow else f"{FRAME}{time:.1f}{FAST_START}{pads}{FAST_END}"


def video_text_tokens(times: Sequence[float], is_slow: Sequence[bool]) -> int:
    """Tokens of `video_text` that are no visual tokens: marks, and a token per character of a timestamp.

    So it is in Qwen's tokenizers and in ours, which split numbers into digits.
    """
    stamps = sum(len(f"{time:.1f}") for time in times)
    return 2 + sum(1 if slow else 3 for slow in is_slow) + stamps
