"""Real media in shards, and the work that I/O servers and torch's DataLoader workers do on them: whole batches."""

import os
import signal
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
from torch.utils.data import Dataset

from data_engine import sample as samples
from data_engine import shards, tables, tokens
from data_engine.media import MediaStore, encode_jpeg
from data_engine.sample import Media, Part, Sample, assistant, document, user
from data_engine.stream import Stream
from model.processing import KeyeProcessor
from model.tokenizer import load_tokenizer, train_bpe
from model.visual_tokens import visual_budget
from tests import films
from train.feed.batches import Batch, Cursor, Feed, Maker, Planned
from train.feed.packing import Limits

PRESET, CONTEXT, FPS = "0.1b", 4096, 2.0
DOCS = Path(__file__).parents[2] / "docs"
SHARES = {"video": 0.24, "image": 0.5, "text": 0.26}


def write_run(out: Path) -> None:
    """Stills of a film trailer at 1280 x 720, clips of 16 frames of a street at 448 pixels, and words, in shards."""
    store = MediaStore(out / "media")
    stills = films.read_all(films.trailer(), FPS, 1280)
    street = films.read_all(films.street(), FPS, 448)
    sizes: dict[str, tuple[int, int]] = {}
    pool = []
    for number, pixels in enumerate(stills):
        key = store.put_bytes(encode_jpeg(pixels), ".jpg")
        sizes[key] = pixels.shape[:2]
        said = user(Part("image", media=(0,)), "what is shown?"), assistant(f"still {number} of the film")
        pool.append(Sample("stills", "image", "caption", said, (Media("image", key),), origin=str(number)))
    for start in range(0, len(street) - 16, 8):
        key = store.put_bytes(f"clip {start}".encode(), ".mp4")
        sizes[key] = street[start].shape[:2]
        shown = [encode_jpeg(pixels) for pixels in street[start : start + 16]]
        table = pa.table({"time": [place / FPS for place in range(16)], "jpeg": shown})
        tables.write(table, out / "frames" / f"{key}.parquet")
        said = user(Part("video", media=(0,)), "what happens?"), assistant(f"people walk, from second {start / FPS}")
        pool.append(Sample("street", "video", "caption", said, (Media("video", key),), origin=str(start)))
    pages = [path.read_text(encoding="utf-8").replace("<|", "<") for path in sorted(DOCS.glob("*.md"))]
    words = [page[start : start + 3000] for page in pages for start in range(0, len(page), 3000)]
    pool += [Sample("pages", "text", "document", (document(text),), origin=str(at)) for at, text in enumerate(words)]
    train_bpe((sample.text for sample in pool), 2000, out / "tokenizer")
    _shard(out, pool, sizes)


def _shard(out: Path, pool: list[Sample], sizes: dict[str, tuple[int, int]]) -> None:
    counter = tokens.Counter(PRESET, out / "tokenizer", out / "frames", FPS, 1280)
    table = samples.to_table(pool)
    counts = tokens.count_partition(table, counter=counter, sizes=sizes)["tokens"]
    for name in tokens.MIXED:
        table = table.append_column(name, counts[name])
    table = table.append_column("split", pa.array(["train"] * len(pool)))
    table = table.append_column("shard", pa.array([0] * len(pool), pa.int64()))
    layout = shards.Layout(out / "media", out / "frames", FPS, 1280, PRESET)
    shards.shard_partition(table, layout=layout, folder=out / "shards")
    told = {"preset": PRESET, "mixture": {"shares": SHARES, "max_repeats": 1}}
    shards.write_manifest(out / "shards", sorted((out / "shards").glob("*.tar")), told)


def plan(run: Path, count: int) -> tuple[Maker, list[Planned]]:
    """The first batches of a feed of one row, and what makes them."""
    processor = KeyeProcessor(load_tokenizer(run / "tokenizer"), visual_budget(PRESET))
    stream = Stream(run / "shards" / "manifest.json", 0)
    feed = Feed(stream, processor, 1, Limits(CONTEXT), look_ahead=256)
    return Maker(stream.reader, processor, CONTEXT, 0), list(islice(feed.plan(Cursor()), count))


@dataclass
class Loaded(Dataset[Batch]):
    """The same batches as torch's DataLoader makes them, over and over."""

    maker: Maker
    planned: list[Planned]

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, place: int) -> Batch:
        return self.maker(self.planned[place % len(self.planned)])


@dataclass
class Shot:
    """Makes batches; is killed once, at the given one. `mark` says when that was, and when another took it up."""

    maker: Maker
    planned: list[Planned]
    at: int
    mark: Path

    def __call__(self, place: int) -> Batch:
        if place == self.at:
            with self.mark.open("a") as file:
                file.write(f"{time.monotonic()}\n")
            if len(self.mark.read_text().splitlines()) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.maker(self.planned[place % len(self.planned)])
