"""Which frames of a video are slow (new content, high resolution) and which are fast (near-static).

Keye-VL-1.5 report, section 2.2: the first frame is slow; a later frame is compared with the latest
slow frame by a patch-based similarity; above 95 % it is fast, else it becomes the new slow frame.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PATCH = 28
"""Side in pixels of the squares that are compared: one language-model token at native size."""

TOLERANCE = 32.0
"""Mean absolute difference over a patch, of 255 levels, up to which it counts as unchanged: an eighth.

Noise and a camera's slight sway on real clips stay far below; a thing of contrast 100 that enters a third
of a patch goes over, as do other colours (red to blue 170, black to white 255, noise to noise 85). Half
the frames of a street scene and of an animated film, at two a second, are then fast.
"""

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class FrameLabel:
    """`similarity` is to the latest slow frame before this one, 0 to 1; the first frame has 0."""

    is_slow: bool
    similarity: float


def label_frames(thumbnails: Iterable[Image], threshold: float = 0.95) -> list[FrameLabel]:
    """Labels for frames (uint8 [H, W, 3], all of one size) in time order; only two are held at a time.

    Raises ValueError when a frame's size differs.
    """
    labels: list[FrameLabel] = []
    latest_slow: Image | None = None
    for frame in thumbnails:
        close = 0.0 if latest_slow is None else similarity(latest_slow, frame)
        is_slow = latest_slow is None or close <= threshold
        latest_slow = frame if is_slow else latest_slow
        labels.append(FrameLabel(is_slow, close))
    return labels


def similarity(a: Image, b: Image, *, patch: int = PATCH, tolerance: float = TOLERANCE) -> float:
    """Share of the picture, by area, whose patches are unchanged: mean |a - b| over RGB <= `tolerance`.

    Absolute differences tell red from blue and black from white, which a cosine of patch vectors does
    not; counting patches gives a small moving thing its true share of the picture.
    Patches at the right and lower edge may be smaller. Raises ValueError when the sizes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"frames of one video must have one size: {a.shape} and {b.shape}")
    difference = np.abs(a.astype(np.int16) - b.astype(np.int16)).sum(axis=2, dtype=np.int32)
    height, width = difference.shape
    rows, columns = np.arange(0, height, patch), np.arange(0, width, patch)
    sums = np.add.reduceat(np.add.reduceat(difference, rows, axis=0), columns, axis=1)
    areas = np.outer(np.diff(rows, append=height), np.diff(columns, append=width))
    return float(areas[sums <= 3 * tolerance * areas].sum() / (height * width))
