"""Shards of pictures, written and read by us and by the peers: samples per CPU-second.

    python benchmarks/shards.py [--samples 1000] [--rounds 5]

The samples are real JPEGs of at most 448 pixels, stamps and frames of a film, each with a JSON about it; the same bytes
on every side, in files of 64 MiB that are in the page cache. Each side is a process of its own; the sides take turns,
a round each; medians.
write: tars with an index and an xxh3 of each sample, the split's index and the manifest (ours); MDS with an xxh3 of
each shard (mosaicml-streaming); chunks (litdata) and tars (webdataset) without checksums.
raw: the media's bytes, JSON unparsed; ours in shuffled order with each sample's xxh3 verified, theirs in file order
and unverified. Beside it ours with the media copied, and with the whole sample parsed.
decode: in shuffled order, each picture by one decoder (Pillow, to RGB); by turns with it that decoder alone on bytes in
memory, in the same process ("of decoder": the rate of the one over that of the other). By that share decoding is
compared with the best: what a core does in a second changes more from one process to the next than the sides differ.
Then `energon prepare` over a copy of the same shards, whose samples must come back.
"""

import argparse
import io
import itertools
import json
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ffmpeg
import orjson
from PIL import Image
from rich.console import Console
from rich.progress import track

sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parent / "peers"))
import peers
import reading
from measuring import save

from data_engine import machine, shard_index, shards, tar_blocks
from data_engine.demo_corpora import default_cache, fetch
from data_engine.media import decode_image, encode_jpeg, shrink
from data_engine.sample import Media, Message, Part, Sample
from data_engine.shard_lint import lint
from data_engine.stream import Stream

BYTES = 1 << 26  # of a shard
EPOCHS = 3
PEERS = ("webdataset", "streaming", "litdata")
COLUMNS = ("write", "raw", "decode")
LAYOUT = shards.Layout(Path(), Path(), 2.0, 448, "tiny")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side(*options.side)
        return
    machine.prepare()
    with tempfile.TemporaryDirectory() as folder:
        samples = make_items(Path(folder) / "items", options.samples)
        runs = rounds(Path(folder), options.rounds)
        figures = {"samples": samples, "rates": medians(runs), "energon": energon(Path(folder))}
    show(figures)
    save("shards", figures)


def make_items(path: Path, samples: int) -> dict[str, float]:
    """Pickles the items; half of them stamps, as far as there are so many, and frames of the film."""
    cache = default_cache()
    fetch(cache)
    stamps = sorted((cache / "stamps").rglob("*.png"))[: samples // 2]
    pictures = [encode_jpeg(shrink(decode_image(file.read_bytes()), 448)) for file in stamps]
    pictures += frames(cache / "video/bbb_5min.mp4", samples - len(pictures))
    found = [(document(number, jpeg), jpeg) for number, jpeg in enumerate(pictures)]
    path.write_bytes(pickle.dumps(found))
    return {"count": len(found), "mean_bytes": statistics.mean(len(jpeg) for jpeg in pictures)}


def frames(film: Path, count: int) -> list[bytes]:
    """As many frames of a film of 300 seconds as JPEGs, evenly apart."""
    small = ffmpeg.input(str(film)).filter("fps", count / 299).filter("scale", 448, -2)
    content, _ = small.output(
        "pipe:", format="image2pipe", vcodec="mjpeg", qscale=3, vframes=count, loglevel="error"
    ).run(capture_stdout=True)
    start = b"\xff\xd8\xff"
    return [start + piece for piece in content.split(start)[1:]]


def document(number: int, jpeg: bytes) -> bytes:
    """The JSON that a shard has of a sample of one picture and a short text."""
    key = f"{number:064x}.jpg"
    asked = Message("user", (Part("image", media=(0,)), Part("text", "What is in the picture?")))
    said = Message("assistant", (Part("text", f"Picture {number} of a collection, drawn by hand and coloured."),))
    sample = Sample("pictures", "image", "caption", (asked, said), (Media("image", key),), "CC-BY-3.0")
    width, height = Image.open(io.BytesIO(jpeg)).size
    shown = [{"kind": "image", "height": height, "width": width}]
    fields = {name: getattr(sample, name) for name in shards._FIELDS}
    return orjson.dumps({**fields, "tokens": {"tiny": 300}, "shown": shown, "shard_format": shards.FORMAT_VERSION})


def rounds(folder: Path, count: int) -> dict[str, list[dict[str, Any]]]:
    runs: dict[str, list[dict[str, Any]]] = {}
    items = folder / "items"
    for number in track(range(count), "rounds", console=Console(stderr=True), transient=True):
        out = folder / f"keyeforge-{number}"
        subprocess.run([sys.executable, __file__, "--side", f"{out}.json", str(items), str(out)], check=True)
        runs.setdefault("keyeforge", []).append(json.loads(Path(f"{out}.json").read_text()))
        for peer in PEERS:
            out = folder / f"{peer}-{number}"
            found = peers.run(peer, f"{peer}_shards.py", Path(f"{out}.json"), items, out, str(EPOCHS))
            assert found["pillow"] == runs["keyeforge"][0]["pillow"], f"{peer} decodes by Pillow {found['pillow']}"
            runs.setdefault(peer, []).append(found)
            shutil.rmtree(out)
        if number:
            shutil.rmtree(folder / f"keyeforge-{number}")
    return runs


def side(out: str, items: str, folder: str) -> None:
    """What is measured of us."""
    found, target = reading.items(items), Path(folder)
    told = rows(found)
    stream: list[Stream] = []

    def write(folder: Path) -> None:
        write_shards(found, told, folder)

    def shuffled() -> Iterator[memoryview]:
        if not stream:
            stream.append(Stream(target / "manifest.json", seed=1))
        stream[0].epoch += 1
        for _, block in stream[0].raw():
            yield from tar_blocks.media_views(block)

    reading.measure(out, found, target, EPOCHS, write=write, raw=shuffled, shuffled=shuffled, media=lambda view: view)
    answer = json.loads(Path(out).read_text())
    total = len(found)
    answer["rates"] |= {
        "copied": reading.rate(total * EPOCHS, lambda: [[bytes(view) for view in shuffled()] for _ in range(EPOCHS)]),
        "parsed": reading.rate(total, lambda: list(stream[0])),
    }
    Path(out).write_text(json.dumps(answer))


def rows(found: list[reading.Item]) -> list[dict[str, Any]]:
    """What the index says of each sample; in a run the pool has it."""
    counts = {"tokens": 300, "visual_tokens": 256, "pictures": 1, "squared_patches": 1 << 20}
    told = [{name: orjson.loads(text)[name] for name in ("id", "corpus", "task", "modality")} for text, _ in found]
    return [{"key": f"{number:011d}", **row, **counts} for number, row in enumerate(told)]


def write_shards(found: list[reading.Item], told: list[dict[str, Any]], folder: Path) -> None:
    """As `shards.shard_partition` does, of samples that are in memory."""
    packed = (
        (row, tar_blocks.block(row["key"], [("json", text), ("0.jpg", jpeg)]))
        for row, (text, jpeg) in zip(told, found, strict=True)
    )
    files = []
    for part, group in itertools.groupby(packed, shards._part_of(BYTES)):
        files.append(folder / f"train-{part:05d}.tar")
        shards.write_shard(files[-1], group)
    shards.write_manifest(folder, files, {"preset": "tiny", "mixture": {"shares": {"image": 1.0}}})


def medians(runs: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, dict[str, float]]]:
    return {
        name: {
            column: {kind: statistics.median(run["rates"][column][kind] for run in found) for kind in ("cpu", "wall")}
            for column in found[0]["rates"]
        }
        for name, found in runs.items()
    }


def energon(folder: Path) -> dict[str, Any]:
    """Whether megatron-energon makes a dataset of the shards of the first round, and reads all of it."""
    written = folder / "keyeforge-0"
    assert lint(written) == []
    found = peers.run("energon", "energon_prepare.py", folder / "energon.json", written, folder / "energon")
    index = shard_index.read(written / "train.index.arrow")
    assert found["ids"] == [index.id(number) for number in range(len(index))]
    return {"prepare_seconds": found["prepare"], "samples": len(found["ids"])}


def show(figures: dict[str, Any]) -> None:
    rates = figures["rates"]
    about = figures["samples"]
    print(f"\n{about['count']:,} JPEGs of {about['mean_bytes'] / 1024:.1f} KiB: samples per CPU-second (per second)")
    print(f"{'side':<14}" + "".join(f"{column:>24}" for column in (*COLUMNS, "of decoder")))
    for name, row in rates.items():
        cells = (f"{row[column]['cpu']:,.0f} ({row[column]['wall']:,.0f})" for column in COLUMNS)
        print(f"{name:<14}" + "".join(f"{cell:>24}" for cell in cells) + f"{row['of decoder']['cpu']:>24.1%}")
    compared = ("write", "raw", "of decoder")
    best = {column: max(rates[peer][column]["cpu"] for peer in PEERS) for column in compared}
    ratios = {column: f"{rates['keyeforge'][column]['cpu'] / best[column]:.2f}" for column in compared}
    print(f"{'to the best':<14}" + "".join(f"{ratios.get(column, ''):>24}" for column in (*COLUMNS, "of decoder")))
    mine = {name: found["cpu"] for name, found in rates["keyeforge"].items()}
    print(f"ours copied {mine['copied']:,.0f}, parsed {mine['parsed']:,.0f}; the decoder alone {mine['decoder']:,.0f}")
    print(
        f"energon prepare: {figures['energon']['samples']:,} samples in {figures['energon']['prepare_seconds']:.1f} s"
    )


if __name__ == "__main__":
    main()
