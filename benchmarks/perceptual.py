"""Perceptual hashes: all pairs within radius 8 among a million, and hashing with decoding beside imagehash.

python benchmarks/perceptual.py [--hashes 1000000] [--pictures 1500]
"""

import argparse
import io
import sys
import time
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from data_engine.dedup.hamming import near_pairs
from data_engine.demo_corpora import default_cache, fetch
from data_engine.image_measures import phash
from data_engine.media import decode_image


def search(count: int) -> None:
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


def hashing(count: int) -> None:
    """Both sides from the same JPEG bytes, by turns."""
    files = sorted((default_cache() / "stamps").rglob("*.png"))
    jpegs = []
    for place in range(count):
        data = io.BytesIO()
        Image.open(files[place % len(files)]).convert("RGB").resize((320, 256)).save(data, "JPEG", quality=80)
        jpegs.append(data.getvalue())
    used = {"keyeforge": 0.0, "imagehash": 0.0}
    differ = 0
    for jpeg in jpegs:
        before = time.process_time()
        ours = phash(decode_image(jpeg))
        between = time.process_time()
        theirs = imagehash.phash(Image.open(io.BytesIO(jpeg)))
        used["keyeforge"] += between - before
        used["imagehash"] += time.process_time() - between
        differ += int(str(theirs), 16) != ours
    rates = {name: count / seconds for name, seconds in used.items()}
    print(", ".join(f"{name} {rate:,.0f} pictures/CPU-s" for name, rate in rates.items()), end="; ")
    print(f"{rates['keyeforge'] / rates['imagehash']:.2f} x imagehash; {differ} hashes differ")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hashes", type=int, default=1_000_000)
    parser.add_argument("--pictures", type=int, default=1_500)
    options = parser.parse_args()
    fetch()
    search(options.hashes)
    hashing(options.pictures)
