"""What an image or a video costs in tokens, and which string stands for it in the prompt.

The one place that counts visual tokens: the processor builds what is promised here, and the data
engine mixes and packs by it. One language-model token is a 28 x 28 pixel square (a 14-pixel patch,
merged 2 x 2). Needs yaml only. Sources: Keye-VL-1.5 report (arXiv 2509.01563, section 2)
and its released `keye_vl_utils`.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

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
    """Every constant of visual token counting and of slow-fast. Token counts are language-model tokens (28 x 28 px).

    The defaults are the preset `paper`; docs/slow_fast.md says what each field does and why it has its value.

    - `fps`, `max_frames`: frames sampled a second, and at most; a longer clip is sampled more thinly, evenly.
    - `similarity`: a frame more alike than this to the latest slow frame is fast. `released`: at least so alike.
    - `video_total_tokens`, `fast_ratio`: of all frames together; of a fast frame as a share of a slow one's.
    - `frame_min_tokens`, `frame_max_tokens`: of a slow frame. Below the floor the sampling rate falls instead. The
      rule `released` enlarges frames to the floor and holds fast frames to it too.
    - `compare_side`, `compare_patch`: the comparison copy's longer side, and its patches' side, in pixels.
    - `level_change`, `texture_change`, `noise`: when a patch counts as changed (see `model.slow_fast.similarity`).
    - `hsv_tokens`, `hsv_cosine`, `hsv_black`: of the rule `released` alone (see `model.released`).
    """

    image_min_tokens: int = 4
    image_max_tokens: int = 20_480
    rule: Literal["paper", "released"] = "paper"
    fps: float = 2.0
    video_total_tokens: int = 75_000
    frame_min_tokens: int = 48
    frame_max_tokens: int = 768
    fast_ratio: float = 0.3
    similarity: float = 0.95
    max_frames: int = 75_000 // 48
    compare_side: int = 256
    compare_patch: int = 8
    level_change: float = 32.0
    texture_change: float = 0.8
    noise: float = 6.0
    hsv_tokens: int = 256
    hsv_cosine: float = 0.7
    hsv_black: float = 0.01
    patch: int = 14
    merge: int = 2

    @property
    def factor(self) -> int:
        """Side of the square of pixels that one token stands for."""
        return self.patch * self.merge


SLOW_FAST = {
    "paper": VisualBudget(),
    "released": VisualBudget(rule="released", similarity=0.9, video_total_tokens=65_536, max_frames=65_536 // 48),
}
"""The slow-fast presets: the report's rule, and PyPI keye-vl-utils 1.5.2."""


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
    if not path.is_file() or Path(preset).name != preset:
        known = ", ".join(sorted(file.stem for file in PRESETS.glob("*.yaml")))
        raise ValueError(f"no model preset {preset!r}; there are: {known}")
    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return data


def visual_budget(preset: str) -> VisualBudget:
    """A slow-fast preset, or the `visual` section of a model preset. Raises ValueError for an unknown preset or key."""
    if preset in SLOW_FAST:
        return SLOW_FAST[preset]
    section = load_preset(preset).get("visual", {})
    known = [field.name for field in fields(VisualBudget)]
    unknown = sorted(set(section) - set(known))
    if unknown:
        raise ValueError(f"preset {preset}: visual.{unknown[0]}: unknown key; known keys: {', '.join(known)}")
    return VisualBudget(**section)


def check_shape(height: int, width: int) -> None:
    """Raises VisualTokenError for an empty side or an aspect ratio over 200."""
    if min(height, width) < 1:
        raise VisualTokenError(f"{width} x {height} pixels: both sides must be at least 1")
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise VisualTokenError(f"{width} x {height} pixels: aspect ratio over {MAX_ASPECT_RATIO}; crop it first")


def smart_resize(height: int, width: int, *, min_pixels: int, max_pixels: int, factor: int = 28) -> tuple[int, int]:
    """The size near `height` x `width` whose sides are multiples of `factor` and whose area is in bounds.

    Keeps the aspect ratio as well as the grid allows. The released formula, with Python's banker's rounding; of a
    picture with a side under `factor` it may make more than `max_pixels`.
    Raises VisualTokenError for an empty side or an aspect ratio over 200.
    """
    check_shape(height, width)
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
    """Sizes for all frames of a video of `height` x `width` pixels, by the budget's rule.

    Never over `video_total_tokens` but by the rule `released`, whose search overshoots. Goes under
    `frame_min_tokens` when it must: samplers of frames prevent that (`floor_fits`).
    Raises VisualTokenError when there are no frames, the first is not slow, there are more than
    `max_frames`, or even frames of one token do not fit.
    """
    if not is_slow or not is_slow[0]:
        raise VisualTokenError("a video needs at least one frame, and its first frame must be slow")
    if len(is_slow) > budget.max_frames:
        raise VisualTokenError(f"{len(is_slow)} frames, at most {budget.max_frames}; sample fewer a second")
    num_slow = sum(map(bool, is_slow))
    num_fast = len(is_slow) - num_slow
    sizes = released_sizes if budget.rule == "released" else frame_sizes
    slow, fast = sizes(num_slow, num_fast, height, width, budget)
    tokens = num_slow * num_tokens(slow, budget.factor) + num_fast * num_tokens(fast, budget.factor)
    return VideoPlan([slow if label else fast for label in is_slow], slow, fast, tokens)


def frame_sizes(num_slow: int, num_fast: int, height: int, width: int, budget: VisualBudget) -> tuple[Size, Size]:
    """The largest pair of pixel sizes, slow and fast, with which all frames fit: by binary search (report, 2.2).

    The pairs to choose from: a slow frame is a grid of `grids` of at most `frame_max_tokens`; its fast frame is the
    largest of them with at most `fast_ratio` of its tokens. The total rises along them, so the search finds the last
    that fits. Raises VisualTokenError when not even the first does.
    """
    cells = grids(height, width, budget.factor)
    counts = [rows * columns for rows, columns in cells]

    def fast_of(place: int) -> int:
        return max(0, bisect_right(counts, int(budget.fast_ratio * counts[place])) - 1)

    def total(place: int) -> int:
        return num_slow * counts[place] + num_fast * counts[fast_of(place)]

    last = bisect_right(counts, max(budget.frame_max_tokens, counts[0]))
    found = bisect_right(range(last), budget.video_total_tokens, key=total) - 1
    if found < 0:
        raise VisualTokenError(
            f"{num_slow + num_fast} frames of {width} x {height} pixels need at least {total(0)} tokens, "
            f"the budget is {budget.video_total_tokens}; sample fewer frames a second"
        )
    (slow_rows, slow_columns), (rows, columns) = cells[found], cells[fast_of(found)]
    side = budget.factor
    return (slow_rows * side, slow_columns * side), (rows * side, columns * side)


@lru_cache(maxsize=64)
def grids(height: int, width: int, factor: int = 28) -> list[Size]:
    """Every grid (rows, columns) of tokens that an undistorted picture of this size can have, never enlarged.

    The picture is shrunk by one scale from 0 to 1 and each side cut down to whole cells, at least one; these are all
    the results, each at least as large as the one before in both directions. Only a side under `factor` is enlarged,
    to one cell. Raises VisualTokenError for an empty side or an aspect ratio over 200.
    """
    check_shape(height, width)
    rows, columns = max(1, height // factor), max(1, width // factor)
    steps = sorted(
        {Fraction(n, height) for n in range(1, rows + 1)} | {Fraction(n, width) for n in range(1, columns + 1)}
    )
    found = {(min(rows, max(1, int(s * height))), min(columns, max(1, int(s * width)))) for s in steps}
    return sorted(found)


def floor_fits(is_slow: Sequence[bool], height: int, width: int, budget: VisualBudget) -> bool:
    """Whether all frames fit with slow ones of `frame_min_tokens`, or at their full size where that is less."""
    counts = [math.prod(cells) for cells in grids(height, width, budget.factor)]
    largest = max((count for count in counts if count <= budget.frame_max_tokens), default=1)
    try:
        plan = plan_video(is_slow, height, width, budget)
    except VisualTokenError:
        return False
    return num_tokens(plan.slow, budget.factor) >= min(budget.frame_min_tokens, largest)


def affordable(is_slow: Sequence[bool], budget: VisualBudget) -> int:
    """How many frames, slow and fast in these shares, fit with slow ones of `frame_min_tokens`; at least one."""
    num_slow = sum(map(bool, is_slow))
    needed = budget.frame_min_tokens * (num_slow + budget.fast_ratio * (len(is_slow) - num_slow))
    return max(1, int(len(is_slow) * budget.video_total_tokens / needed))


def released_sizes(num_slow: int, num_fast: int, height: int, width: int, budget: VisualBudget) -> tuple[Size, Size]:
    """The sizes of keye-vl-utils 1.5.2 (`fetch_video`): its search returns the first number that does not fit.

    Each fast frame is counted with at least the floor, and gets `fast_ratio` of a slow frame's real tokens, again with
    at least the floor. Frames under the floor are enlarged to it.
    """
    floor, area = budget.frame_min_tokens, budget.factor**2
    low, high = floor, budget.frame_max_tokens
    while low < high:
        middle = (low + high) // 2
        total = num_slow * middle + num_fast * max(int(budget.fast_ratio * middle), floor)
        low, high = (low, middle) if total > budget.video_total_tokens else (middle + 1, high)

    def resized(most: int) -> Size:
        return smart_resize(height, width, min_pixels=floor * area, max_pixels=most * area, factor=budget.factor)

    slow = resized(low)
    return slow, resized(max(int(num_tokens(slow, budget.factor) * budget.fast_ratio), floor))


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
