"""Shots found by the built-in detector and by TransNetV2: planted changes exact to the frame, and a film's own cuts.

python benchmarks/shots.py [--pieces 40] [--film-seconds 300]
"""

import argparse
import json
import random
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from data_engine import shots, video
from data_engine.demo_corpora import default_cache, fetch
from data_engine.models import transnet
from tests.films import Piece, cache, fetched, splice

# Stretches without a cut of their own, seen by eye: (file, start, end) in seconds.
STRETCHES = {
    "street": (default_cache() / "video/vtest.avi", ((0, 75),)),
    "film": (cache() / "bigbuckbunny.mp4", ((0, 5),)),
    "head": (cache() / "carphone_pristine.mp4", ((0, 3.8),)),
    "city": (cache() / "cityCC0.mpg", ((0, 4.3), (5, 7.2))),
    "bicycles": (cache() / "bikes.mp4", ((1.4, 2.9), (3.2, 5.3), (5.7, 7.3), (7.7, 9.5))),
}


def planned(count: int, fade: int) -> list[Piece]:
    """Pieces of 1 to 2.5 s (with a fade longer by it), no two in a row of one source."""
    rng, pieces, last = random.Random(fade), list[Piece](), ""
    while len(pieces) < count:
        name = rng.choice([name for name in STRETCHES if name != last])
        path, parts = STRETCHES[name]
        start, end = rng.choice(parts)
        frames = rng.randint(24, 60) if not fade else rng.randint(40, 60) + fade
        if frames / 24 > end - start - 0.1:
            continue
        at, last = round(rng.uniform(start, end - 0.1 - frames / 24), 2), name
        pieces.append(Piece(path, at, frames, fade if pieces else 0))
    return pieces


def ours(path: Path, info: video.VideoInfo) -> Iterator[int]:
    frames = video.sample_frames(path, info, fps=info.fps, max_side=shots.SIDE)
    return (found.frame for found in shots.boundaries(frames, info.fps, shots.Detector()))


def network(path: Path, info: video.VideoInfo) -> Iterator[int]:
    frames = video.sample_frames(path, info, fps=info.fps, max_side=4 * transnet.WIDTH)
    return transnet.starts(transnet.scores(map(transnet.squeezed, frames), transnet.PACKAGE), 0.5)


SIDES = {"built-in": ours, "TransNetV2": network}


def timed(name: str, path: Path) -> tuple[list[int], float]:
    """(boundaries, CPU-seconds with those of the decoder)."""
    before = _cpu()
    found = list(SIDES[name](path, video.probe(path)))
    return found, _cpu() - before


def _cpu() -> float:
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in spent)


def scored(found: list[int], truth: list[int], tolerance: int) -> dict[str, float]:
    hit = sum(any(abs(at - real) <= tolerance for at in found) for real in truth)
    right = sum(any(abs(at - real) <= tolerance for real in truth) for at in found)
    return {"recall": hit / max(len(truth), 1), "precision": right / max(len(found), 1), "found": len(found)}


def main(pieces: int, film_seconds: float) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    print("| film | changes | tolerance | side | recall | precision | CPU-s |\n" + "| --- " * 7 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for fade in (0, 6, 12, 24):
            path = Path(folder) / f"{fade}.mp4"
            truth = splice(planned(pieces, fade), path)
            what = f"planted dissolves, {fade} frames" if fade else "planted cuts"
            for side in SIDES:
                found, seconds = timed(side, path)
                _tell(
                    figures,
                    what,
                    len(truth),
                    fade // 2 + (2 if fade else 0),
                    side,
                    scored(found, truth, fade // 2 + (2 if fade else 0)),
                    seconds,
                )
        path = Path(folder) / "film.mp4"
        _own(figures, path, film_seconds)
    return figures


def _own(figures: dict[str, Any], path: Path, seconds: float) -> None:
    """The film's own changes: each side held against the other, for want of a truth."""
    import ffmpeg

    source = ffmpeg.input(str(default_cache() / "video/bbb_5min.mp4"), t=seconds)
    source.output(str(path), c="copy", an=None, loglevel="error").run()
    found = {side: timed(side, path) for side in SIDES}
    for side, other in (("built-in", "TransNetV2"), ("TransNetV2", "built-in")):
        against = found[other][0]
        _tell(
            figures,
            f"Big Buck Bunny, against {other}",
            len(against),
            12,
            side,
            scored(found[side][0], against, 12),
            found[side][1],
        )
    print(
        "only built-in:", [at for at in found["built-in"][0] if min(abs(at - o) for o in found["TransNetV2"][0]) > 12]
    )
    print(
        "only TransNetV2:", [at for at in found["TransNetV2"][0] if min(abs(at - o) for o in found["built-in"][0]) > 12]
    )


def _tell(
    figures: dict[str, Any], what: str, count: int, tolerance: int, side: str, score: dict[str, float], seconds: float
) -> None:
    figures[f"{what}, {side}"] = {**score, "CPU-s": round(seconds, 2)}
    row = [what, count, tolerance, side, f"{score['recall']:.3f}", f"{score['precision']:.3f}", f"{seconds:.1f}"]
    print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pieces", type=int, default=40)
    parser.add_argument("--film-seconds", type=float, default=300.0)
    options = parser.parse_args()
    fetch()
    for clip in ("bikes.mp4", "cityCC0.mpg"):
        fetched(clip)
    out = Path("build/bench/shots.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(main(options.pieces, options.film_seconds), indent=1) + "\n")
