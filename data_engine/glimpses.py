"""A few frames of a video at their full size, found by seeking: what text and safety are judged by."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_engine import video
from data_engine.media import MediaError, MediaStore
from model import decoding
from model.decoding import Pixels, VideoInfo


def times(start: float, end: float, count: int) -> list[float]:
    """The middles of `count` equal parts of a span, in seconds."""
    return [start + (end - start) * (place + 0.5) / count for place in range(count)]


def frame_at(path: Path, info: VideoInfo, time: float, max_side: int) -> Pixels | None:
    """The RGB frame [H, W, 3] on screen at a time, its longer side at most `max_side`; None where none decodes."""
    size = decoding.fitted(info.height, info.width, max_side)
    return next(decoding.hold(path, info, 1.0, size, start=time, end=time), None)


def span_frames(path: Path, info: VideoInfo, start: float, end: float, fps: float, max_side: int) -> Iterator[Pixels]:
    """RGB frames [H, W, 3] of a span at `start`, `start + 1 / fps`, ...: only the span is decoded, one frame held."""
    size = decoding.fitted(info.height, info.width, max_side)
    return decoding.hold(path, info, fps, size, start=start, end=end)


def of_sample(media: Sequence[dict[str, Any]], store: MediaStore, count: int, max_side: int) -> Iterator[Pixels]:
    """`count` frames of every video span that a sample shows, and the frames that it shows as pictures.

    What does not decode has no frames: the probe has its reason.
    """
    for item in media:
        if item["kind"] == "image" and item["start"] is None:
            continue
        try:
            path = store.local(item["key"])
            info = video.probe(path)
        except (MediaError, OSError):
            continue
        start, end = item["start"] or 0.0, info.duration if item["end"] is None else item["end"]
        at = [start] if item["kind"] == "image" else times(start, end, count)
        yield from (pixels for time in at if (pixels := frame_at(path, info, time, max_side)) is not None)
