"""Frames of a video file by ffmpeg, scaled while they are decoded: never the whole clip in memory."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np
from numpy.typing import NDArray


class VideoError(ValueError):
    """A file that is no readable video: the message names it and says why."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Size in pixels as shown (after rotation), duration in seconds."""

    height: int
    width: int
    duration: float


def probe(path: Path) -> VideoInfo:
    """Size and duration of the first video stream. Raises VideoError."""
    if not path.is_file():
        raise VideoError(f"{path}: no such file")
    try:
        found: dict[str, Any] = ffmpeg.probe(str(path), cmd=_program("ffprobe"))
    except ffmpeg.Error as error:
        raise VideoError(f"{path}: not a media file that ffprobe can read") from error
    stream = next((one for one in found["streams"] if one["codec_type"] == "video"), None)
    duration = float(found["format"].get("duration", 0) or 0)
    if stream is None or duration <= 0:
        raise VideoError(f"{path}: no video stream with a duration")
    height, width = int(stream["height"]), int(stream["width"])
    turned = any(abs(int(side.get("rotation", 0))) % 180 == 90 for side in stream.get("side_data_list", []))
    return VideoInfo(width, height, duration) if turned else VideoInfo(height, width, duration)


def stream_frames(path: Path, fps: float, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Frames (uint8 [H, W, 3]) at 0, 1 / fps, 2 / fps … seconds, scaled to `size` (height, width).

    One at a time, as ffmpeg decodes them.

    Raises VideoError when no frame can be decoded.
    """
    height, width = size
    command = (
        ffmpeg.input(str(path))
        .filter("fps", fps=fps, round="up", start_time=0)
        .filter("scale", width, height, flags="area")
        .output("pipe:", format="rawvideo", pix_fmt="rgb24")
        .compile(cmd=[_program("ffmpeg"), "-v", "error", "-nostdin"])
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        count = 0
        while len(data := process.stdout.read(height * width * 3)) == height * width * 3:
            count += 1
            yield np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)
        reason = process.stderr.read().decode(errors="replace").strip().splitlines()
    if not count:
        raise VideoError(f"{path}: no frame could be decoded: {reason[-1] if reason else 'it is empty'}")


def thumbnail_size(info: VideoInfo, longest: int = 448) -> tuple[int, int]:
    """Height and width, even, with the longer side at most `longest`."""
    scale = min(1.0, longest / max(info.height, info.width))
    return max(2, round(info.height * scale / 2) * 2), max(2, round(info.width * scale / 2) * 2)


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise VideoError(f"{name} is not on PATH: install ffmpeg")
    return path
