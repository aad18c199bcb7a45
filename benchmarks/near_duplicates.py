"""Near-duplicate removal, end to end, beside rensa with shingles made in Python, in English and in Chinese.

python benchmarks/near_duplicates.py [--documents 500000]

Both sides read the same Parquet files and give the rows to drop; CPU-seconds of each process, its imports and
compilation apart. Planted pairs are judged by the true Jaccard similarity of their 5-grams. The peer is installed in
an environment of its own. Not compared yet: data-juicer and datatrove.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from grown import rows as grown  # noqa: E402

from data_engine import sample as samples  # noqa: E402
from data_engine import tables  # noqa: E402
from data_engine.curation import Curation  # noqa: E402
from data_engine.dedup import minhash  # noqa: E402
from data_engine.dedup.rows import Part, Rows  # noqa: E402
from data_engine.demo_corpora import default_cache, fetch  # noqa: E402
from data_engine.recipe import Recipe  # noqa: E402
from data_engine.sample import Sample, document  # noqa: E402
from data_engine.step import Run  # noqa: E402

PARTS = 20_000
PEER = """
import json, resource, sys, time
import pyarrow.parquet as pq
from rensa import RMinHash, RMinHashLSH
folder, chinese = sys.argv[1], sys.argv[2] == "zh"
def used():
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime
RMinHash.from_token_sets([["a"]], num_perm=128, seed=42)
before = used()
texts = pq.read_table(folder + "/texts.parquet")["text"].to_pylist()
def shingles(text):
    words = list(text) if chinese else text.split()
    return {" ".join(words[i:i + 5]) for i in range(max(1, len(words) - 4))}
minhashes = RMinHash.from_token_sets([list(shingles(text)) for text in texts], num_perm=128, seed=42)
lsh = RMinHashLSH(0.8, 128, 16)
lsh.insert_many(minhashes)
parent = list(range(len(texts)))
def root(item):
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = parent[item]
    return item
for item, found in enumerate(lsh.query_all(minhashes)):
    for other in found:
        a, b = sorted((root(item), root(int(other))))
        parent[b] = a
keep = [root(item) for item in range(len(texts))]
json.dump({"cpu": used() - before, "keeper": keep}, open(folder + "/peer.json", "w"))
"""


def documents(ground: grown.Soil, chinese: bool, count: int, seed: int) -> tuple[pa.Array, np.ndarray[Any, Any]]:
    """Texts, a tenth of them copies of another with one to three words changed; of which each is a copy (or itself)."""
    random = np.random.default_rng(seed)
    tongue = ground.languages[int(chinese)]
    copy = random.random(count) < 0.1
    copy[0] = False
    of = np.where(copy, random.choice(np.flatnonzero(~copy), count), np.arange(count))
    length = random.integers(80, 260, count)[of]
    seeds = random.integers(0, 1 << 62, count)[of]
    starts = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    none = np.zeros(count, np.int64)
    ids = grown._walk(starts, seeds, none > 0, none, tongue.text, tongue.first, tongue.places, len(tongue.words))
    for row in np.flatnonzero(copy):
        places = starts[row] + random.integers(length[row], size=int(random.integers(1, 4)))
        ids[places] = random.integers(len(tongue.words), size=len(places))
    lists = pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), tongue.words.take(pa.array(ids)))
    return pc.binary_join(lists, tongue.glue), of


def ours(texts: pa.Array, folder: Path) -> tuple[float, np.ndarray[Any, Any]]:
    """CPU-seconds of the local runner, and the row kept in each row's place."""
    rows = _rows(texts, folder / "parts")
    source = {"format": "text", "path": ".", "modality": "text", "task": "text", "licence": "CC0"}
    run = Curation(Recipe.model_validate({"corpus": "c", "sources": [source]}), Run(folder / "run"), "local")
    work = folder / "work"
    work.mkdir(parents=True)
    before = time.process_time()
    found = minhash.find(rows, minhash.MinHash(threshold=0.8), run, work)
    used = time.process_time() - before
    keeper = np.arange(len(texts))
    keeper[found.row] = found.keeper
    return used, keeper


def _rows(texts: pa.Array, folder: Path) -> Rows:
    parts = []
    for index, start in enumerate(range(0, len(texts), PARTS)):
        chunk = texts[start : start + PARTS].to_pylist()
        table = samples.to_table(
            [Sample("c", "text", "t", (document(text),), origin=str(i)) for i, text in enumerate(chunk)]
        )
        measures = pa.table({"id": table["id"], "media_keys": pa.array([[]] * len(chunk), pa.list_(pa.string()))})
        where = [folder / name / f"part-{index:05d}.parquet" for name in ("samples", "measures")]
        for found, path in zip((table, measures), where, strict=True):
            tables.write(found, path)
        parts.append(Part(*where))
    return Rows(parts)


def recall(texts: pa.Array, of: np.ndarray[Any, Any], keeper: np.ndarray[Any, Any], chinese: bool) -> tuple[int, float]:
    """(planted pairs of true Jaccard >= 0.8 among the first 20,000, the share that ends in one component)."""
    truly = found = 0
    for row in np.flatnonzero(of != np.arange(len(of)))[:20_000]:
        sets = [_shingles(texts[int(i)].as_py(), chinese) for i in (row, of[row])]
        if len(sets[0] & sets[1]) >= 0.8 * len(sets[0] | sets[1]):
            truly += 1
            found += int(keeper[row] == keeper[of[row]])
    return truly, found / max(truly, 1)


def _shingles(text: str, chinese: bool) -> set[tuple[str, ...]]:
    import re

    words = re.findall(r"[\u4e00-\u9fff]", text) if chinese else re.findall(r"[A-Za-z]+", text.casefold())
    return {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))}


def peer(texts: pa.Array, folder: Path, chinese: bool) -> tuple[float, np.ndarray[Any, Any]]:
    """rensa's CPU-seconds and keepers, in its own environment."""
    home = folder.parent / "rensa"
    if not (home / "bin/python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([home / "bin/python", "-m", "pip", "install", "-q", "rensa", "pyarrow"], check=True)
    pq.write_table(pa.table({"text": texts}), folder / "texts.parquet")
    subprocess.run([home / "bin/python", "-c", PEER, str(folder), "zh" if chinese else "en"], check=True)
    found = json.loads((folder / "peer.json").read_text())
    return found["cpu"], np.array(found["keeper"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=500_000)
    parser.add_argument("--out", type=Path, default=Path("build/near_duplicates"))
    options = parser.parse_args()
    fetch()
    ground = grown.soil(default_cache())
    for chinese in (False, True):
        name = "zh" if chinese else "en"
        texts, of = documents(ground, chinese, options.documents // 2, seed=int(chinese))
        stamp = options.out.resolve() / f"{name}-{time.time_ns()}"
        ours(texts[:200], stamp / "warm-up")
        results = {"keyeforge": ours(texts, stamp), "rensa": peer(texts, stamp, chinese)}
        for side, (cpu, keeper) in results.items():
            pairs, share = recall(texts, of, keeper, chinese)
            stray = int(((keeper != np.arange(len(of))) & (keeper != of) & (keeper[of] != keeper)).sum())
            print(
                f"{name} {side:<10} {len(texts):,} documents {cpu:7.1f} CPU-s {len(texts) / cpu:9,.0f} documents/CPU-s,"
                f" recall {share:.4f} of {pairs:,} planted pairs, dropped for no planted reason {stray}"
            )
        print(f"{name}: {results['rensa'][0] / results['keyeforge'][0]:.2f} x rensa")


if __name__ == "__main__":
    main()
