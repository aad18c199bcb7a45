"""A film strip of a slow-fast plan: slow frames big, fast frames small, the tokens of each written on it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from model.slow_fast import FrameLabel
from model.visual_tokens import Size, VideoPlan, num_tokens

WIDTH = 1280
"""Pixels the strip may be wide before it goes on in the next row."""

SLOW_HEIGHT = 132
"""Pixels a slow frame is tall; a fast frame is smaller by the square root of its share of tokens."""

GAP, MARGIN, CAPTION = 6, 14, 18
FILM, INK, SLOW_EDGE, FAST_EDGE = "#16181d", "#e8e6df", "#f2a33a", "#5b7fa6"


def draw(
    frames: Sequence[NDArray[np.uint8]],
    labels: Sequence[FrameLabel],
    plan: VideoPlan,
    times: Sequence[float],
) -> Image.Image:
    """The strip of `frames` (uint8 [H, W, 3], any size) in time order, wrapped into rows.

    Each frame carries its time and tokens below it and the colour of its kind around it.
    """
    sizes = [_shown_size(frame, size, plan) for frame, size in zip(frames, plan.sizes, strict=True)]
    places, height = _layout(sizes)
    strip = Image.new("RGB", (WIDTH, height), FILM)
    pen = ImageDraw.Draw(strip)
    for frame, label, size, shown, (x, foot), time in zip(
        frames, labels, plan.sizes, sizes, places, times, strict=True
    ):
        top = foot - shown[1]
        strip.paste(Image.fromarray(frame).resize(shown, Image.Resampling.LANCZOS), (x, top))
        edge = SLOW_EDGE if label.is_slow else FAST_EDGE
        pen.rectangle((x - 2, top - 2, x + shown[0] + 1, top + shown[1] + 1), outline=edge, width=2)
        caption = f"{time:.1f}s  {num_tokens(size)}" if label.is_slow else f"{num_tokens(size)}"
        font = ImageFont.load_default(12 if label.is_slow else 10)
        pen.text((x, foot + 4), caption, fill=INK if label.is_slow else FAST_EDGE, font=font)
    _write_legend(pen, plan, labels, height)
    return strip


def _shown_size(frame: NDArray[np.uint8], size: Size, plan: VideoPlan) -> tuple[int, int]:
    """(width, height) in pixels of a frame on the strip: undistorted, areas in proportion to tokens."""
    height, width, _ = frame.shape
    tall = SLOW_HEIGHT * (num_tokens(size) / num_tokens(plan.slow)) ** 0.5
    return max(1, round(tall * width / height)), max(1, round(tall))


def _layout(sizes: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], int]:
    """Left edge and foot of each frame, and the strip's height with a legend below; a row is as tall as its tallest."""
    rows: list[list[tuple[int, int]]] = [[]]
    x = MARGIN
    for width, tall in sizes:
        if rows[-1] and x + width > WIDTH - MARGIN:
            rows.append([])
            x = MARGIN
        rows[-1].append((x, tall))
        x += width + GAP
    places, foot = [], 0
    for row in rows:
        foot += MARGIN + max(tall for _, tall in row)
        places += [(x, foot) for x, _ in row]
        foot += CAPTION
    return places, foot + 2 * MARGIN + CAPTION


def _write_legend(pen: ImageDraw.ImageDraw, plan: VideoPlan, labels: Sequence[FrameLabel], height: int) -> None:
    num_slow = sum(label.is_slow for label in labels)
    entries = [
        (f"{num_slow} slow frames x {num_tokens(plan.slow)} tokens", SLOW_EDGE),
        (f"{len(labels) - num_slow} fast frames x {num_tokens(plan.fast)} tokens", FAST_EDGE),
        (f"{plan.tokens} visual tokens in all", INK),
    ]
    x = MARGIN
    for text, colour in entries:
        pen.text((x, height - MARGIN - CAPTION), text, fill=colour, font=ImageFont.load_default(13))
        x += 300
