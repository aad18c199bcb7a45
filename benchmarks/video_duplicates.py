"""Near-duplicate clips at scale: real clips among as many strangers as wanted, and real clips that crowd one film.

python benchmarks/video_duplicates.py [--clips 100000] [--crowd 2000]

Strangers are 20 random hashes each, as many as a clip of ten seconds has: they cost the index what unrelated real ones
do at least (real hashes crowd a little more). The crowd is drawn from five minutes of real film, at any frame: every
clip overlaps dozens of others, far more than in any corpus.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[1]))
from data_engine import frames, video
from data_engine.dedup.video import Clips, Video, containments
from data_engine.demo_corpora import default_cache, fetch

Hashes = npt.NDArray[np.uint64]


def hashes(path: Path, fps: float) -> Hashes:
    shown = video.sample_frames(path, video.probe(path), fps=fps, max_side=224)
    return np.array([frames.frame_hash(pixels) for pixels in shown], np.uint64)


def clips(found: list[Hashes]) -> Clips:
    number = np.arange(len(found), dtype=np.int64)
    start = np.concatenate([[0], np.cumsum([len(seen) for seen in found])]).astype(np.int64)
    whole = np.full(len(found), np.inf)
    return Clips(number, np.zeros(len(found)), whole, np.concatenate(found), start, number, number)


def timed(found: list[Hashes]) -> tuple[set[tuple[int, int]], float]:
    before = time.process_time()
    held, holder = containments(clips(found), Video())
    return set(zip(held.tolist(), holder.tolist(), strict=True)), time.process_time() - before


def main(count: int, crowd: int) -> dict[str, float]:
    random, film = np.random.default_rng(0), hashes(default_cache() / "video/bbb_5min.mp4", 8.0)
    timed([film[:40], film[:40]])
    starts = range(0, len(film) - 160, 160)
    real = [film[at : at + 160 : 4] for at in starts]  # 20 s at two frames a second
    pieces = [film[at + 42 : at + 122 : 4] for at in starts]  # ten of them, begun a quarter of a second beside
    strangers = list(random.integers(1, 2**63, (count, 20), dtype=np.uint64))
    pairs, seconds = timed([*real, *pieces, *strangers])
    hit = sum((len(real) + at, at) in pairs for at in range(len(real)))
    wrong = sum(max(pair) >= 2 * len(real) for pair in pairs)
    print(f"{count:,} strangers: {seconds:.1f} CPU-s; {hit} of {len(real)} planted pieces found, {wrong} false pairs")
    result = {"strangers": count, "CPU-s": round(seconds, 1), "planted": len(real), "found": hit, "false": wrong}
    drawn = [film[at : at + 80 : 4] for at in random.integers(0, len(film) - 80, crowd)]
    pairs, seconds = timed(drawn)
    print(f"{crowd:,} clips crowding one film: {seconds:.1f} CPU-s, {len(pairs):,} pairs held")
    return {**result, "crowd": crowd, "crowd CPU-s": round(seconds, 1), "crowd pairs": len(pairs)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--crowd", type=int, default=2_000)
    options = parser.parse_args()
    fetch()
    out = Path("build/bench/video_duplicates.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(main(options.clips, options.crowd), indent=1) + "\n")
