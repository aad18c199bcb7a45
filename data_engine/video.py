"""Videos for the data engine: `model.decoding` at a fixed rate, and what is wrong with a file as a MediaError."""

from collections.abc import Iterator
from pathlib import Path

from data_engine.media import MediaError
from model import decoding
from model.decoding import Pixels, VideoError, VideoInfo


def probe(path: Path) -> VideoInfo:
    """Reads the container's header. Raises MediaError: empty, not a video, no picture, no duration."""
    try:
        return decoding.probe(path)
    except VideoError as error:
        raise MediaError(error.reason) from error


def fitted(width: int, height: int, max_side: int) -> tuple[int, int]:
    """(width, height) scaled so that the longer side is at most `max_side`, even numbers, never enlarged."""
    rows, columns = decoding.fitted(height, width, max_side)
    return columns, rows


def sample_frames(path: Path, info: VideoInfo, *, fps: float, max_side: int) -> Iterator[Pixels]:
    """RGB frames [H, W, 3] at times 0, 1/fps, 2/fps, ...: each the frame on screen at its time.

    Decoding and scaling happen in ffmpeg; one frame at a time is held here.
    Raises MediaError if the stream ends well before the duration its header claims (a cut file).
    """
    count = 0
    try:
        for pixels in decoding.hold(path, info, fps, decoding.fitted(info.height, info.width, max_side)):
            count += 1
            yield pixels
        decoding.check_whole(path, info, count / fps)
    except VideoError as error:
        raise MediaError(error.reason) from error
