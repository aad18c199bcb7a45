"""The stream at ten million samples: where it goes on, beside the peers; what its index costs; its shares after kills.

    python benchmarks/stream.py [--samples 10000000]

Resume: seconds from nothing but the state to the first sample, at the last place of an epoch in mixed, shuffled order;
every side is a process of its own with its imports done, and reads one shard under many names, as only index and order
are measured. litdata and mosaicml-streaming shuffle without a mixture; megatron-energon is at a tenth of the samples,
as its index takes long to make, and after 1,000 of them, as it must read its way to a place. webdataset keeps no place.
Index: bytes, seconds to open and to begin at both ends of an epoch, and memory, at a hundredth, a tenth and all of the
samples, with the line through the last two drawn on to a hundred million (build/bench/stream.png).
Shares: the largest error of any modality's share of tokens past 10,000 samples of each rank's stream, over five kills
after each of which another number of ranks goes on; beside it what draws by weight would give.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
from xxhash import xxh3_64_intdigest

sys.path.append(str(Path(__file__).parents[1]))
import peers
from measuring import FOLDER, save
from peers.clock import cpu_seconds

from data_engine import shard_index, tar_blocks
from data_engine.sample import Sample, document
from data_engine.shard_index import Source
from data_engine.shards import Layout, members
from data_engine.stream import Stream

SHARES = {"video": 0.24, "image": 0.50, "text": 0.26}
LOGS = {"video": (8.5, 1.0), "image": (6.5, 1.0), "text": (6.0, 1.2)}
"""Of the tokens of a modality's samples: mean and spread of their logarithm."""
SHARD = 100_000
ROUNDS = 5
SAMPLE = Sample("words", "text", "document", (document("a lamp stands on a table near the window"),))
LAYOUT = Layout(Path(), Path(), 2.0, 448, "tiny")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side(*options.side)
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = {"resume": resume(Path(folder), options.samples), "index": index_curve(Path(folder), options.samples)}
        figures["shares"] = shares(Path(folder) / str(options.samples // 10))
    save("stream", figures)


def make(folder: Path, samples: int) -> Path:
    """One shard under many names, and an index of `samples` samples in it with sizes of their own."""
    folder.mkdir()
    random = np.random.default_rng(0)
    means = {name: np.exp(mean + spread**2 / 2) for name, (mean, spread) in LOGS.items()}
    weights = np.array([share / means[name] for name, share in SHARES.items()])
    counts = np.ceil(1.06 * samples * weights / weights.sum()).astype(int)  # more than an epoch of so many places takes
    tokens = np.concatenate([random.lognormal(*LOGS[name], count) for name, count in zip(SHARES, counts, strict=True)])
    samples = len(tokens)
    block = tar_blocks.block("000000000000", members(SAMPLE, 8, LAYOUT))
    shards = [f"train-{number:05d}.tar" for number in range(-(-samples // SHARD))]
    (folder / shards[0]).write_bytes(block * SHARD + tar_blocks.END)
    for name in shards[1:]:
        (folder / name).hardlink_to(folder / shards[0])
    number = np.arange(samples)
    zeros = np.zeros(samples, np.int64)
    columns: dict[str, Any] = dict.fromkeys(shard_index.SCHEMA.names, zeros)
    columns |= {"source": np.repeat(np.arange(3), counts), "tokens": np.minimum(tokens, 75_000).astype(np.int32) + 1}
    columns |= {"shard": number // SHARD, "offset": number % SHARD * len(block), "size": zeros + len(block)}
    columns["xxh3"] = np.full(samples, xxh3_64_intdigest(block), np.uint64)
    columns["id"] = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(12), samples, [None, pa.py_buffer(random.bytes(12 * samples))]
    )
    sources = [Source(name, name) for name in SHARES]  # type: ignore[arg-type]
    shard_index.write(shard_index.path_of(folder, "train"), columns, sources, shards)
    told = {"splits": {"train": [{"file": name} for name in shards]}, "mixture": {"shares": SHARES}}
    (folder / "manifest.json").write_text(json.dumps(told))
    return folder / "manifest.json"


def side(out: str, manifest: str, place: str) -> None:
    """What is measured of us, in a process of its own: from nothing but a state to the first sample."""
    warm = Stream(manifest, seed=1)
    state = {**warm.state_dict(), "position": int(place)}
    assert int(place) < len(warm)
    del warm
    began = time.perf_counter()
    shard_index.read(shard_index.path_of(Path(manifest).parent, "train"))
    opened = time.perf_counter() - began
    spent, began = cpu_seconds(), time.perf_counter()
    stream = Stream(manifest, seed=1, state=state)
    items = iter(stream)
    next(items)
    wall, cpu = time.perf_counter() - began, cpu_seconds() - spent
    found = {"wall": wall, "cpu": cpu, "opened": opened, "peak": peak()}
    found |= {"state": len(json.dumps(stream.state_dict())), "places": len(stream), "indexed": len(stream.index)}
    found["index"] = shard_index.path_of(Path(manifest).parent, "train").stat().st_size
    Path(out).write_text(json.dumps(found))


def peak() -> int:
    """The most memory this process has had, in bytes, mapped files among it."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10  # type: ignore[index]


def ours(manifest: Path, place: int) -> dict[str, Any]:
    out = manifest.with_name("side.json")
    subprocess.run([sys.executable, __file__, "--side", str(out), str(manifest), str(place)], check=True)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def resume(folder: Path, samples: int) -> dict[str, Any]:
    """Every side, in turn, `ROUNDS` times: medians."""
    manifest = make(folder / str(samples), samples)
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(ROUNDS):
        runs.setdefault("keyeforge", []).append(ours(manifest, samples - 1))
        for peer in ("streaming", "litdata"):
            found = peers.run(peer, f"{peer}_resume.py", folder / f"{peer}.json", folder / peer, str(samples))
            runs.setdefault(peer, []).append(found)
        found = peers.run("energon", "energon_resume.py", folder / "energon.json", folder / "energon",
                          str(samples // 10), "1000")  # fmt: skip
        runs.setdefault("energon", []).append(found)
    print(f"\nResume at place {samples - 1:,} of {samples:,}")
    print(f"{'side':<12}{'seconds':>10}{'CPU s':>10}{'state, bytes':>14}{'index, bytes':>16}")
    rows = {}
    for name, found in runs.items():
        row = {
            key: statistics.median(one[key] for one in found if key in one) for key in ("wall", "cpu", "state", "index")
        }
        rows[name] = row
        print(f"{name:<12}{row['wall']:>10.3f}{row['cpu']:>10.3f}{row['state']:>14,.0f}{row['index']:>16,.0f}")
    return rows


def index_curve(folder: Path, samples: int) -> list[dict[str, Any]]:
    rows = []
    for count in (samples // 100, samples // 10, samples):
        path = folder / str(count)
        manifest = path / "manifest.json" if path.exists() else make(path, count)
        ends = {"first": 0, "last": count - 1}
        runs = {end: [ours(manifest, place) for _ in range(ROUNDS)] for end, place in ends.items()}
        middle = {place: statistics.median(run["wall"] for run in found) for place, found in runs.items()}
        opened = statistics.median(run["opened"] for run in runs["first"])
        one = runs["last"][0]
        rows.append(
            {
                "samples": count,
                "bytes": one["index"],
                "indexed": one["indexed"],
                "open": opened,
                **middle,
                "peak": one["peak"],
            }
        )
    rows.append(drawn_on(rows))
    columns = ("samples", "index, bytes", "a sample", "open, ms", "first, s", "last, s", "peak, MB")
    print("\n" + "".join(f"{name:>14}" for name in columns))
    for row in rows:
        print(
            f"{row['samples']:>14,}{row['bytes']:>14,.0f}{row['bytes'] / row['indexed']:>14.1f}"
            f"{row['open'] * 1e3:>14.2f}{row['first']:>14.3f}{row['last']:>14.3f}{row['peak'] / 1e6:>14.0f}"
        )
    plot(rows)
    return rows


def drawn_on(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ten times the last row, by the line through the last two."""
    small, large = rows[-2:]
    far = {"samples": 10 * large["samples"]}
    steps = (far["samples"] - large["samples"]) / (large["samples"] - small["samples"])
    return {**far, **{key: large[key] + steps * (large[key] - small[key]) for key in small if key != "samples"}}


def plot(rows: list[dict[str, Any]]) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    counts = [row["samples"] for row in rows]
    for axis, names, unit, title in (
        (axes[0], ("bytes",), 1e9, "index, GB"),
        (axes[1], ("open", "first", "last"), 1, "seconds to open, and to begin at either end"),
    ):
        for name in names:
            line, *_ = axis.plot(counts[:-1], [row[name] / unit for row in rows[:-1]], "o-", label=name)
            ends = [rows[-2][name] / unit, rows[-1][name] / unit]
            axis.plot(counts[-2:], ends, "o--", color=line.get_color(), markerfacecolor="white")
        axis.set(xscale="log", yscale="log", title=title, xlabel="samples (hollow: drawn on)")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.tight_layout()
    FOLDER.mkdir(parents=True, exist_ok=True)
    figure.savefig(FOLDER / "stream.png", dpi=120)


def shares(folder: Path) -> dict[str, Any]:
    """Errors of shares in percentage points, by how many ranks there were before each kill."""
    manifest = folder / "manifest.json"
    print("\nLargest error of a share past 10,000 samples, in points, after kills; the bound; and draws by weight")
    found = {}
    for worlds in ((1, 1, 1, 1, 1), (1, 2, 4, 2, 1), (8, 4, 8, 4, 8), (16, 3, 5, 1, 2)):
        state, worst, slack, drawn = None, 0.0, 0.0, 0.0
        for world_size in worlds:
            for rank in range(world_size):
                stream = Stream(manifest, seed=1, rank=rank, world_size=world_size, state=state)
                mine = np.fromiter((p.number for p in islice(stream.places(), 12_345)), np.int64)
                assert len(mine) == 12_345
                error, bound = errors(stream, mine)
                worst, slack = max(worst, error.max()), max(slack, (error / bound).max())
                drawn = max(drawn, errors(stream, by_weight(stream, rank))[0].max())
            position = stream.since + len(mine) * world_size
            state = {
                **stream.identity(),
                "epoch": 0,
                "position": position,
                "since": stream.since,
                "world_size": world_size,
            }
        name = " ".join(map(str, worlds))
        found[name] = {"worst": float(worst), "of_bound": float(slack), "by_weight": float(drawn)}
        print(f"ranks {name:<12} error {worst:8.4f}   {slack:5.1%} of the bound   by weight {drawn:8.4f}")
    return found


def errors(stream: Stream, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(largest error, bound) at every point past 10,000 samples, in percentage points."""
    mine = stream.index.tokens[numbers].astype(float)
    total = np.cumsum(mine)
    had = [np.cumsum(np.where(stream.index.source[numbers] == name, mine, 0)) / total for name in range(len(SHARES))]
    error = np.max([np.abs(one - share) for one, share in zip(had, SHARES.values(), strict=True)], axis=0)
    bound = np.maximum(1e-4, np.maximum.accumulate(mine) / total)
    return 100 * error[10_000:], 100 * bound[10_000:]


def by_weight(stream: Stream, seed: int) -> np.ndarray:
    """As many samples drawn at random, a modality as often as brings it its share of tokens on average."""
    random = np.random.default_rng(seed)
    index = stream.index
    means = np.array([index.tokens[index.source == name].mean() for name in range(len(SHARES))])
    weights = np.array(list(SHARES.values())) / means
    firsts, counts = np.searchsorted(index.source, range(len(SHARES))), np.bincount(index.source)
    chosen = random.choice(len(SHARES), 12_345, p=weights / weights.sum())
    return firsts[chosen] + random.integers(0, counts[chosen])


if __name__ == "__main__":
    main()
