"""Frames found by seeking are those on screen, also where no frame begins for a long time."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from data_engine import glimpses, video
from model.decoding import Pixels

SECONDS = 10
PALETTE = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0), (255, 255, 255)], np.uint8)


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four slides of ten seconds each, and each is one frame."""
    path = tmp_path_factory.mktemp("slides") / "10:30 slides.mp4"
    frames = np.broadcast_to(PALETTE[:, None, None], (4, 48, 64, 3)).tobytes()
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x48", "-r", f"1/{SECONDS}", "-i", "pipe:"]
    made = ["ffmpeg", "-v", "error", *source, "-c:v", "libx264", "-pix_fmt", "yuv420p", f"file:{path}"]
    subprocess.run(made, input=frames, check=True)
    return path


def slide(pixels: Pixels) -> int:
    """Which slide a frame shows."""
    return int(np.abs(PALETTE.astype(float) - pixels.reshape(-1, 3).mean(axis=0)).sum(axis=1).argmin())


def test_the_frame_at_a_time_is_the_one_on_screen(slides: Path) -> None:
    info = video.probe(slides)
    for time in (0.0, 4.0, 10.0, 15.0, 29.0, 31.0, 39.5):
        found = glimpses.frame_at(slides, info, time, 64)
        assert found is not None and slide(found) == int(time // SECONDS), time


def test_a_span_has_the_frames_of_its_own_times(slides: Path) -> None:
    info = video.probe(slides)
    for start, end in ((12.0, 18.0), (8.0, 12.0), (31.0, 39.0)):
        found = [slide(pixels) for pixels in glimpses.span_frames(slides, info, start, end, 1.0, 64)]
        assert found == [int(second // SECONDS) for second in np.arange(start, end)]
