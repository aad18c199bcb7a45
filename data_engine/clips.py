"""Spans of videos played one after the other, as sampled frames labelled slow or fast."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from data_engine import frames
from data_engine.media import MediaError, encode_jpeg
from data_engine.sample import Media
from model.slow_fast import label_frames
from model.visual_tokens import VisualBudget, affordable, floor_fits

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Clip:
    """JPEG frames, all of `height` x `width` pixels, each with its time in seconds and its label."""

    frames: list[bytes]
    times: list[float]
    is_slow: list[bool]
    similarity: list[float]
    height: int
    width: int


def times(folder: Path, media: Media) -> list[float]:
    """The times of a film's kept frames between `start` and `end`, in seconds of the film.

    Raises MediaError where there are none: the film could not be decoded.
    """
    path = folder / f"{media.key}.parquet"
    if not path.exists():
        raise MediaError("no frame of it is to be had")
    within: list[float] = frames.signals(path).between(media.start, media.end).time.tolist()
    if not within:
        raise MediaError(f"no frame between {media.start} and {media.end} s")
    return within


def span(folder: Path, media: Media) -> list[bytes]:
    """The kept frames of a video between `start` and `end` (seconds, end excluded), or at `start` alone."""
    path = folder / f"{media.key}.parquet"
    if media.kind == "image":
        return [frames.jpeg_at(path, media.start or 0.0)]
    return frames.jpegs(path, media.start, media.end)


def build(spans: Sequence[Media], folder: Path, *, fps: float, budget: VisualBudget) -> Clip:
    """The clip that plays `spans` in turn; frames of another shape are fitted into the first one's.

    A clip of more frames than the budget's `max_frames`, or than fit at its floor, is thinned out evenly.
    Raises ValueError for a span that holds no frame.
    """
    found = [span(folder, item) for item in spans]
    empty = [item for item, jpegs in zip(spans, found, strict=True) if not jpegs]
    if empty:
        raise ValueError(f"video {empty[0].key}: no frame between {empty[0].start} and {empty[0].end} s")
    jpegs = [jpeg for part in found for jpeg in part]
    count = min(len(jpegs), budget.max_frames)
    while True:
        clip = _labelled(spread(len(jpegs), count), jpegs, fps, budget)
        if count == 1 or floor_fits(clip.is_slow, clip.height, clip.width, budget):
            return clip
        count = min(count - 1, affordable(clip.is_slow, budget))


def spread(num: int, count: int) -> list[int]:
    """`count` of the places 0 to `num` - 1, the first among them, as evenly apart as whole numbers allow."""
    return [place * num // count for place in range(count)]


def _labelled(places: Sequence[int], all_jpegs: Sequence[bytes], fps: float, budget: VisualBudget) -> Clip:
    """The clip of the frames at `places`, each at the time that its place has at `fps` frames a second."""
    jpegs = [all_jpegs[place] for place in places]
    height, width = _decode(jpegs[0]).shape[:2]

    def passing() -> Iterator[Pixels]:
        for index, jpeg in enumerate(jpegs):
            pixels = _decode(jpeg)
            if pixels.shape[:2] != (height, width):
                pixels = _letterbox(pixels, height, width)
                jpegs[index] = encode_jpeg(pixels)
            yield pixels

    labels = label_frames(passing(), budget)
    return Clip(
        frames=jpegs,
        times=[place / fps for place in places],
        is_slow=[label.is_slow for label in labels],
        similarity=[label.similarity for label in labels],
        height=height,
        width=width,
    )


def _decode(jpeg: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(jpeg)))


def _letterbox(pixels: Pixels, height: int, width: int) -> Pixels:
    return np.asarray(ImageOps.pad(Image.fromarray(pixels), (width, height)))
