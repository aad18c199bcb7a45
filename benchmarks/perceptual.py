"""Perceptual hashes: all pairs within radius 8 among a million, and hashing with decoding beside imagehash.

python benchmarks/perceptual.py [--hashes 1000000] [--pictures 1500]
"""

import argparse
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from data_engine.dedup.hamming import near_pairs
from data_engine.demo_corpora import default_cache, fetch
from data_engine.image_measures import phash, phash_file, to_grey
from data_engine.media import decode_image
from data_engine.probe import probe_image


def search(count: int) -> dict[str, float]:
    """Random hashes, with neighbours at distances 0 to 8 planted for one in twenty."""
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, count, dtype=np.uint64)
    planted = count // 20
    flips = [sum(1 << int(bit) for bit in random.choice(64, i % 9, replace=False)) for i in range(planted)]
    hashes[:planted] = hashes[planted : 2 * planted] ^ np.array(flips, np.uint64)
    near_pairs(hashes[:100], 8)
    before = time.process_time()
    pairs = near_pairs(hashes, 8)
    used = time.process_time() - before
    found = set(map(tuple, pairs.tolist()))
    missed = sum((i, i + planted) not in found for i in range(planted))
    print(
        f"radius 8 among {count:,}: {used:.1f} CPU-s, {len(pairs):,} pairs, {missed} of {planted:,} planted ones missed"
    )
    return {"hashes": count, "radius-8 search CPU-s": round(used, 2), "planted": planted, "missed": missed}


def hashing(count: int) -> dict[str, float]:
    """All sides from the same JPEG bytes, by turns; the sizes are those of a thumbnail, a web picture and a photo."""
    files = sorted((default_cache() / "stamps").rglob("*.png"))
    found: dict[str, float] = {}
    for width, height, share in ((320, 256, 1), (640, 480, 4), (1280, 960, 16)):
        jpegs = [_jpeg(files[place % len(files)], width, height) for place in range(count // share)]
        used = _by_turns(jpegs)
        rates = {name: len(jpegs) / seconds for name, seconds in used.items()}
        print(
            f"{width} x {height}: " + ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items()), end=" a CPU-s; "
        )
        print(f"{rates['phash_file'] / rates['imagehash']:.2f} x imagehash", end="; ")
        print(f"the hash alone, within a probe: {rates['phash of a decoded picture'] / rates['imagehash']:.2f} x")
        found |= {f"{name} {width}x{height} per CPU-s": round(rate, 1) for name, rate in rates.items()}
        found[f"ratio {width}x{height}"] = round(rates["phash_file"] / rates["imagehash"], 3)
    found["mean bits from imagehash"] = _distance(jpegs)
    print(f"mean distance from imagehash's hash: {found['mean bits from imagehash']:.2f} of 64 bits")
    return found


def _jpeg(path: Path, width: int, height: int) -> bytes:
    data = io.BytesIO()
    Image.open(path).convert("RGB").resize((width, height)).save(data, "JPEG", quality=80)
    return data.getvalue()


def _by_turns(jpegs: list[bytes]) -> dict[str, float]:
    """CPU-seconds of each side. A probe measures all there is, of one whole decode; its hash is the last column."""
    pixels = decode_image(jpegs[0])
    sides: dict[str, Callable[[bytes], object]] = {
        "phash_file": phash_file,
        "imagehash": lambda data: imagehash.phash(Image.open(io.BytesIO(data))),
        "whole probe": probe_image,
        "phash of a decoded picture": lambda data: phash(to_grey(pixels)),
    }
    used = dict.fromkeys(sides, 0.0)
    for side in sides.values():
        side(jpegs[0])
    for jpeg in jpegs:
        for name, side in sides.items():
            before = time.process_time()
            side(jpeg)
            used[name] += time.process_time() - before
    return used


def _distance(jpegs: list[bytes]) -> float:
    theirs = [int(str(imagehash.phash(Image.open(io.BytesIO(jpeg)))), 16) for jpeg in jpegs]
    bits = [(phash_file(jpeg) ^ other).bit_count() for jpeg, other in zip(jpegs, theirs, strict=True)]
    return round(float(np.mean(bits)), 3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hashes", type=int, default=1_000_000)
    parser.add_argument("--pictures", type=int, default=1_500)
    options = parser.parse_args()
    fetch()
    figures = {**search(options.hashes), **hashing(options.pictures)}
    out = Path("build/bench/perceptual.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=1) + "\n")
