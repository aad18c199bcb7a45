"""A few frames of a video at their full size, found by seeking: what text and safety are judged by."""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_engine import video
from data_engine.media import MediaError, MediaStore
from model.decoding import VideoInfo

Pixels = npt.NDArray[np.uint8]


def times(start: float, end: float, count: int) -> list[float]:
    """The middles of `count` equal parts of a span, in seconds."""
    return [start + (end - start) * (place + 0.5) / count for place in range(count)]


def frame_at(path: Path, info: VideoInfo, time: float, max_side: int) -> Pixels | None:
    """The RGB frame [H, W, 3] on screen at a time, its longer side at most `max_side`; None where there is none."""
    width, height = video.fitted(info.width, info.height, max_side)
    command = ["ffmpeg", "-v", "error", "-nostdin", "-ss", f"{time:.3f}", "-i", str(path), "-frames:v", "1"]
    command += ["-vf", f"scale={width}:{height}:flags=area", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:"]
    raw = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
    whole = len(raw) == width * height * 3
    return np.frombuffer(raw, np.uint8).reshape(height, width, 3) if whole else None


def span_frames(path: Path, info: VideoInfo, start: float, end: float, fps: float, max_side: int) -> Iterator[Pixels]:
    """RGB frames [H, W, 3] of a span at `start`, `start + 1 / fps`, ...: only the span is decoded, one frame held."""
    width, height = video.fitted(info.width, info.height, max_side)
    command = ["ffmpeg", "-v", "error", "-nostdin", "-ss", f"{start:.3f}", "-t", f"{end - start:.3f}", "-i", str(path)]
    command += ["-vf", f"fps={fps}:round=up,scale={width}:{height}:flags=area"]
    with subprocess.Popen(
        [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        size = width * height * 3
        while len(data := process.stdout.read(size)) == size:
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)


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
