"""Where the shots of a film begin: hard cuts, and dissolves and fades as well as small frames show them.

Frames are looked at once, in blocks, at a few dozen pixels a side: memory does not grow with the film. All rules are
about mean absolute differences of pixels on 0..255.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat

import numpy as np
import numpy.typing as npt
from pydantic import Field

from strict_yaml import Strict

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
SIDE = 64
"""Pixels of the longer side of what is compared."""
_BLOCK = 512
_NEAR = 4
"""Frames on either side that a cut must stand out from."""
_SPANS = (0.5, 1.0, 2.0)
"""Seconds that a dissolve or fade is looked for over."""


class Detector(Strict):
    """When two successive frames are of two shots.

    `min_cut`: the least difference of a hard cut, which must also be `cut_ratio` times the greatest near it; a picture
    that comes back within `flash` seconds was no cut but a flash. `min_fade`: the least difference of the two ends of
    a dissolve or fade; the middle must lie between the ends as a mixture of them does, within `max_bend` of their
    difference, and their grey levels must not correlate above `max_alike`: that is the same scene under other light.
    """

    min_cut: float = Field(default=10.0, gt=0)
    cut_ratio: float = Field(default=2.0, gt=1)
    flash: float = Field(default=0.4, gt=0)
    min_fade: float = Field(default=18.0, gt=0)
    max_bend: float = Field(default=0.3, gt=0, lt=1)
    max_alike: float = Field(default=0.7, gt=-1, le=1)


@dataclass(frozen=True, slots=True)
class Boundary:
    """The first frame of a new shot, and whether the change was gradual: then it is the middle of it."""

    frame: int
    gradual: bool


def boundaries(frames: Iterator[Pixels], fps: float, rules: Detector) -> Iterator[Boundary]:
    """The boundaries in a film's small RGB frames [h, w, 3], all of one size, `fps` a second, in order of time."""
    margin = _margin(fps, rules)
    last = -margin
    for first, block in _blocks(frames, margin):
        for found in _in_block(block, fps, rules):
            inside = margin <= found.frame < margin + _BLOCK
            if inside and first + found.frame - last > _NEAR:
                last = first + found.frame
                yield Boundary(last, found.gradual)


def _margin(fps: float, rules: Detector) -> int:
    """Frames around a frame that decide about it: the longest span, and room for a rival in it."""
    return 2 * round(max(_SPANS) * fps) + round(rules.flash * fps) + _NEAR


def _blocks(frames: Iterator[Pixels], margin: int) -> Iterator[tuple[int, Pixels]]:
    """(number of its first frame, frames [n, h, w, 3]): `_BLOCK` new ones each, with `margin` around them.

    Before the first frame and after the last one these two are repeated.
    """
    held: list[Pixels] = []
    first = -margin
    for frame in _padded(frames, margin):
        held.append(frame)
        if len(held) == _BLOCK + 2 * margin:
            yield first, np.stack(held)
            held, first = held[_BLOCK:], first + _BLOCK
    if len(held) > 2 * margin:
        yield first, np.stack(held)


def _padded(frames: Iterator[Pixels], margin: int) -> Iterator[Pixels]:
    frame = None
    for frame in frames:
        yield from repeat(frame, margin)
        yield frame
        break
    for frame in frames:
        yield frame
    if frame is not None:
        yield from repeat(frame, margin)


def _in_block(block: Pixels, fps: float, rules: Detector) -> list[Boundary]:
    pixels = block.astype(np.float32)
    step = np.zeros(len(pixels), np.float32)
    step[1:] = np.abs(np.diff(pixels, axis=0)).mean(axis=(1, 2, 3))
    cuts = [int(at) for at in _cuts(pixels, step, fps, rules)]
    fades = _fades(_coarse(pixels), step, fps, rules)
    near = round(fps * max(_SPANS) / 4)
    gradual = [at for at in fades if all(abs(at - cut) > near for cut in cuts)]
    return sorted([*(Boundary(at, False) for at in cuts), *(Boundary(at, True) for at in gradual)], key=_frame)


def _frame(boundary: Boundary) -> int:
    return boundary.frame


def _cuts(pixels: Floats, step: Floats, fps: float, rules: Detector) -> Iterator[int]:
    """Frames that differ from the one before by far more than any near them, and for good."""
    padded = np.pad(step, _NEAR)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEAR + 1)
    others = np.delete(windows, _NEAR, axis=1).max(axis=1)
    candidates = np.flatnonzero((step >= rules.min_cut) & (step >= rules.cut_ratio * others))
    reach = max(1, round(rules.flash * fps))
    for at in candidates.tolist():
        after, before = pixels[at : at + reach], pixels[max(0, at - reach) : at]
        back = min(_differences(after, pixels[at - 1]).min(), _differences(before, pixels[at]).min())
        if back >= 0.5 * step[at]:
            yield at


def _differences(pixels: Floats, other: Floats) -> Floats:
    found: Floats = np.abs(pixels - other).mean(axis=(1, 2, 3))
    return found


def _fades(pixels: Floats, step: Floats, fps: float, rules: Detector) -> list[int]:
    """Middles of dissolves and fades, each the best of its neighbourhood over all spans."""
    best, reach = np.zeros(len(pixels), np.float32), np.zeros(len(pixels), np.int64)
    for seconds in _SPANS:
        half = max(2, round(seconds * fps / 2))
        score = np.pad(_mixture(pixels, step, half, rules), half)
        reach = np.where(score > best, half, reach)
        best = np.maximum(best, score)
    found: list[int] = []
    for at in np.argsort(-best, kind="stable").tolist():
        if best[at] <= 0:
            break
        if all(abs(at - other) > reach[at] + reach[other] for other in found):
            found.append(at)
    return sorted(found)


def _coarse(pixels: Floats) -> Floats:
    """Means of squares of 4 x 4 pixels: enough for what changes slowly, at a sixteenth of the work."""
    n, height, width = pixels.shape[:3]
    tall, wide = min(4, height), min(4, width)
    whole = pixels[:, : height // tall * tall, : width // wide * wide]
    found: Floats = whole.reshape(n, height // tall, tall, width // wide, wide, 3).mean(axis=(2, 4))
    return found


def _mixture(pixels: Floats, step: Floats, half: int, rules: Detector) -> Floats:
    """Per middle of a span of `2 * half` frames how far apart its ends are, 0 where it is no dissolve or fade."""
    start, middle, end = pixels[: -2 * half], pixels[half:-half], pixels[2 * half :]
    apart = np.abs(end - start).mean(axis=(1, 2, 3))
    bend = np.abs(middle - (start + end) / 2).mean(axis=(1, 2, 3))
    steepest = np.lib.stride_tricks.sliding_window_view(step[1:], 2 * half).max(axis=1)
    mixes = (apart >= rules.min_fade) & (bend <= rules.max_bend * apart) & (steepest <= 0.4 * apart)
    mixes &= _alike(start, end) <= rules.max_alike
    return np.where(mixes, apart - bend, 0).astype(np.float32)


def _alike(start: Floats, end: Floats) -> Floats:
    """Correlation of the grey levels of pairs of frames; of a flat picture 0."""
    a, b = (frames.mean(axis=3).reshape(len(frames), -1) for frames in (start, end))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    length = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    found: Floats = np.where(length > 1e-3, (a * b).sum(axis=1) / np.maximum(length, 1e-3), 0)
    return found


Span = tuple[float, float]
"""Start and end of a piece of a film in seconds of its source, the end excluded."""


def spans(starts: Sequence[float], duration: float) -> list[Span]:
    """The shots between boundaries (seconds, rising), from 0 to the end of the film."""
    edges = [0.0, *(start for start in starts if 0 < start < duration), duration]
    return list(pairwise(edges))
