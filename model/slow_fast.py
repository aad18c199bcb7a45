"""Which frames of a video are slow (new content, high resolution) and which are fast (near-static).

Keye-VL-1.5 report, section 2.2: the first frame is slow; a later frame is compared with the latest
slow frame by a patch-based similarity; above 95 % it is fast, else it becomes the new slow frame.
docs/slow_fast.md shows what the similarity here finds on real films, beside the released one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.visual_tokens import SLOW_FAST, Size, VisualBudget

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
PAPER = SLOW_FAST["paper"]


@dataclass(frozen=True, slots=True)
class FrameLabel:
    """`similarity` is to the latest slow frame before this one, 0 to 1; the first frame has 0."""

    is_slow: bool
    similarity: float


@dataclass(frozen=True, slots=True)
class Patches:
    """A comparison copy (float32 [H, W, 3]), and of each patch the mean colour [R, C, 3] and the variance [R, C]."""

    pixels: Floats
    level: Floats
    variance: Floats


def label_frames(frames: Iterable[Pixels], budget: VisualBudget = PAPER) -> list[FrameLabel]:
    """Labels for frames (uint8 [H, W, 3], all of one size) in time order; only two are held at a time.

    Raises ValueError when a frame's size differs.
    """
    if budget.rule == "released":
        from model.released import label_frames as released

        return [FrameLabel(slow, close) for slow, close in released(frames, budget)]
    return list(_labels(frames, budget))


def _labels(frames: Iterable[Pixels], budget: VisualBudget) -> Iterator[FrameLabel]:
    latest_slow: Patches | None = None
    shape: tuple[int, ...] | None = None
    for frame in frames:
        shape = shape or frame.shape
        _check_shape(shape, frame.shape)
        patches = cut(frame, budget)
        close = 0.0 if latest_slow is None else _alike(latest_slow, patches, budget)
        is_slow = latest_slow is None or close <= budget.similarity
        latest_slow = patches if is_slow else latest_slow
        yield FrameLabel(is_slow, close)


def similarity(a: Pixels, b: Pixels, budget: VisualBudget = PAPER) -> float:
    """Share of the patches that are unchanged, 0 to 1, on copies of at most `compare_side` pixels.

    A patch has changed when its mean colour moved by more than `level_change` of 255 levels in any channel, or when
    the variance of a - b within it is more than `texture_change` of the two pictures' variances and that of `noise`
    together. The first sees other colours, light and darkness; the second other things of the same colour: for a
    patch that stays it is near 0, for two unrelated textures near 1, and noise and a slight sway, small beside what
    is in the picture, change little. Counting patches gives a moving thing its share of the picture.
    Raises ValueError when the sizes differ.
    """
    _check_shape(a.shape, b.shape)
    return _alike(cut(a, budget), cut(b, budget), budget)


def compare_size(height: int, width: int, budget: VisualBudget = PAPER) -> Size:
    """Size of the comparison copy: whole patches, the longer side `compare_side` pixels or hardly more than it has."""
    scale = min(1.0, budget.compare_side / max(height, width)) / budget.compare_patch
    side = budget.compare_patch
    return max(1, round(height * scale)) * side, max(1, round(width * scale)) * side


def cut(frame: Pixels, budget: VisualBudget) -> Patches:
    """What of a frame is compared; one that is not of its comparison size yet is shrunk by averaging."""
    height, width = compare_size(frame.shape[0], frame.shape[1], budget)
    if frame.shape[:2] != (height, width):
        frame = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BOX))
    pixels = frame.astype(np.float32)
    level = _means(pixels, budget.compare_patch)
    return Patches(pixels, level, _variance(_means(pixels * pixels, budget.compare_patch), level * level))


def _alike(a: Patches, b: Patches, budget: VisualBudget) -> float:
    moved = np.abs(a.level - b.level).max(axis=2) > budget.level_change
    shared = _variance(_means(a.pixels * b.pixels, budget.compare_patch), a.level * b.level)
    there = a.variance + b.variance
    other = there - 2 * shared > budget.texture_change * (there + 2 * budget.noise**2)
    return 1.0 - float(np.count_nonzero(moved | other) / moved.size)


def _means(pixels: Floats, side: int) -> Floats:
    """Means over patches [R, C, 3]: rows first, which are contiguous, so that little is left for columns."""
    height, width, _ = pixels.shape
    rows = np.add.reduce(pixels.reshape(height // side, side, width * 3), axis=1)
    found: Floats = np.add.reduce(rows.reshape(height // side, width // side, side, 3), axis=2) / np.float32(
        side * side
    )
    return found


def _variance(of_products: Floats, products: Floats) -> Floats:
    """Mean over the channels of a (co)variance [R, C]."""
    found: Floats = (of_products - products).mean(axis=2)
    return found


def _check_shape(first: tuple[int, ...], other: tuple[int, ...]) -> None:
    if first != other:
        raise ValueError(f"frames of one video must have one size: {first} and {other}")
