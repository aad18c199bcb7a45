"""Videos sampled at a fixed rate by ffmpeg, one pass, never the whole clip in memory."""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np
import numpy.typing as npt

from data_engine.media import MediaError

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What the container says. `duration` in seconds; `width` and `height` upright (rotation applied)."""

    format: str
    width: int
    height: int
    duration: float
    fps: float


def probe(path: Path) -> VideoInfo:
    """Reads the container's header. Raises MediaError: empty, not a video, or no duration."""
    if path.stat().st_size == 0:
        raise MediaError("empty file")
    try:
        report = ffmpeg.probe(str(path))
    except ffmpeg.Error as error:
        lines = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        reason = lines[-1].replace(str(path), "").lstrip(": ") if lines else "unknown fault"
        raise MediaError(f"video does not open: {reason}") from error
    streams = [s for s in report["streams"] if s["codec_type"] == "video"]
    if not streams:
        raise MediaError("no video stream")
    stream = streams[0]
    numerator, denominator = (int(n) for n in stream["avg_frame_rate"].split("/"))
    fps = numerator / denominator if denominator else 0.0
    duration = float(stream.get("duration") or report["format"].get("duration") or 0)
    container = report["format"]["format_name"]
    if container == "avi" and fps:
        # ffprobe shortens the duration of a cut AVI to what is left of it; the header's frame count stays.
        # Other containers may count frames that an edit list hides, and those are rightly not played.
        duration = max(duration, int(stream.get("nb_frames", 0)) / fps)
    if duration <= 0:
        raise MediaError("no duration in the container")
    width, height = _upright(stream)
    return VideoInfo(container, width, height, duration, fps)


def _upright(stream: dict[str, Any]) -> tuple[int, int]:
    width, height = int(stream["width"]), int(stream["height"])
    rotations = [int(d["rotation"]) for d in stream.get("side_data_list", []) if "rotation" in d]
    turned = bool(rotations) and rotations[0] % 180 != 0
    return (height, width) if turned else (width, height)


def fitted(width: int, height: int, max_side: int) -> tuple[int, int]:
    """(width, height) scaled so that the longer side is at most `max_side`, even numbers, never enlarged."""
    scale = min(1.0, max_side / max(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def sample_frames(path: Path, info: VideoInfo, *, fps: float, max_side: int) -> Iterator[Pixels]:
    """RGB frames [H, W, 3] at times 0, 1/fps, 2/fps, ...: each the frame on screen at its time.

    Decoding and scaling happen in ffmpeg; one frame at a time is held here.
    Raises MediaError if the stream ends well before the duration its header claims (a cut file).
    """
    width, height = fitted(info.width, info.height, max_side)
    command = (
        ffmpeg.input(str(path))
        .filter("fps", fps=fps, round="up")
        .filter("scale", width, height, flags="area")
        .output("pipe:", format="rawvideo", pix_fmt="rgb24", loglevel="error")
        .compile()
    )
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout
    size, count = width * height * 3, 0
    try:
        while len(data := process.stdout.read(size)) == size:
            count += 1
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
    finally:
        process.stdout.close()
        process.terminate()
        process.wait()
    decoded = count / fps
    if decoded < info.duration - max(1.0, 0.05 * info.duration):
        raise MediaError(f"video ends at {decoded:.1f} s of the {info.duration:.1f} s its header claims")


def motion(frames: Sequence[Pixels]) -> float:
    """Mean absolute difference of successive frames on 0..255: 0 is a still picture."""
    differences = [float(np.abs(a.astype(np.int16) - b).mean()) for a, b in pairwise(frames)]
    return sum(differences) / len(differences) if differences else 0.0
