"""Slow-fast as PyPI keye-vl-utils 1.5.2 does it: its choice of frames and its similarity, for parity only.

Restated from `keye_vl_utils.vision_process` (`_read_video_decord`, `get_frame_sim`), without torch, OpenCV or decord;
tests run the package beside it. Its sizes are `model.visual_tokens.released_sizes`.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.visual_tokens import VisualBudget, smart_resize

Pixels = NDArray[np.uint8]
Float = np.float32


def frame_indices(packets: int, native_fps: float, budget: VisualBudget) -> list[int]:
    """The numbers of the frames it samples, of `packets` in the stream: evenly from the first to the last."""
    fps = min(budget.fps, native_fps)
    frames = min(int(packets / native_fps * fps), budget.max_frames)
    return [int(index) for index in np.round(linspace(packets - 1, frames))]


def linspace(last: int, count: int) -> NDArray[np.float32]:
    """`torch.linspace(0, last, count)` to the bit: a step of float32, the second half counted back from the end.

    Each value is rounded once, as a fused multiply-add does; products of two float32 are exact in float64.
    """
    if count < 2:
        return np.zeros(count, dtype=Float)
    step = np.float64(Float(last) / Float(count - 1))
    places = np.arange(count)
    return np.where(places < count // 2, places * step, last - (count - 1 - places) * step).astype(Float)


def label_frames(frames: Iterable[Pixels], budget: VisualBudget) -> Iterator[tuple[bool, float]]:
    """Whether each frame (uint8 [H, W, 3], at full size) is slow, and how alike it is to the latest slow one.

    A pair of frames that is black all over has no similarity (NaN), and the second is fast.
    """
    latest_slow: NDArray[np.float32] | None = None
    for frame in frames:
        patches = cut(frame, budget)
        close = 0.0 if latest_slow is None else _alike(latest_slow, patches, budget)
        is_slow = latest_slow is None or close < budget.similarity
        latest_slow = patches if is_slow else latest_slow
        yield is_slow, close


def similarity(a: Pixels, b: Pixels, budget: VisualBudget) -> float:
    """Share of the patches whose cosine exceeds `hsv_cosine`, of those that are not black in both; NaN for none."""
    return _alike(cut(a, budget), cut(b, budget), budget)


def _alike(a: NDArray[np.float32], b: NDArray[np.float32], budget: VisualBudget) -> float:
    lengths = np.linalg.norm(a, axis=2) + Float(1e-8), np.linalg.norm(b, axis=2) + Float(1e-8)
    cosine = np.einsum("rcv,rcv->rc", a / lengths[0][..., None], b / lengths[1][..., None])
    seen = (lengths[0] >= budget.hsv_black) | (lengths[1] >= budget.hsv_black)
    return float((cosine[seen] > budget.hsv_cosine).mean()) if seen.any() else float("nan")


def cut(frame: Pixels, budget: VisualBudget) -> NDArray[np.float32]:
    """Patches [R, C, 28 * 28 * 3] of a frame's copy in HSV, of `frame_min_tokens` to `hsv_tokens` patches."""
    side = budget.factor
    least, most = budget.frame_min_tokens * side**2, budget.hsv_tokens * side**2
    height, width = smart_resize(*frame.shape[:2], min_pixels=least, max_pixels=most, factor=side)
    copy = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
    cells = to_hsv(copy).reshape(height // side, side, width // side, side, 3).swapaxes(1, 2)
    return cells.reshape(height // side, width // side, -1).astype(Float)


def to_hsv(pixels: Pixels) -> Pixels:
    """OpenCV's 8-bit HSV of RGB: hue 0 to 179, saturation and value 0 to 255, in its fixed point of 12 bits."""
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    saturation = (spread * _SATURATION[value] + 2048) >> 12
    turn = np.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    turn = np.where(value == red, green - blue, turn)
    hue = (turn * _HUE[spread] + 2048) >> 12
    return np.stack([hue + np.where(hue < 0, 180, 0), saturation, value], axis=-1).astype(np.uint8)


_LEVELS = np.maximum(np.arange(256), 1)
_SATURATION = np.where(np.arange(256) > 0, np.rint(255 * 4096 / _LEVELS), 0).astype(np.int32)
_HUE = np.where(np.arange(256) > 0, np.rint(180 * 4096 / (6 * _LEVELS)), 0).astype(np.int32)
