"""A small run folder with real shards: coloured squares with a question, plain text, and short videos."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from data_engine import sample as samples
from data_engine import shards, tables, tokens
from data_engine.media import MediaStore, encode_jpeg
from data_engine.sample import Media, Part, Sample, assistant, document, user
from model.tokenizer import train_bpe
from train.stages import Stage

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "yellow": (230, 220, 30)}
TEXT = "the lamp stands on a table near an open window while rain falls over roofs and quiet streets"
SHARES = {"video": 0.24, "image": 0.5, "text": 0.26}


def square(colour: str, shade: int) -> bytes:
    """A PNG of one colour; `shade` makes pictures of one colour differ."""
    pixels = np.full((64, 64, 3), COLOURS[colour], dtype=np.int16) + shade % 20
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def questions(store: MediaStore, count: int) -> list[Sample]:
    made = []
    for number in range(count):
        colour = list(COLOURS)[number % 4]
        key = store.put_bytes(square(colour, number // 4), ".png")
        messages = (user(Part("image", media=(0,)), "which colour is this?"), assistant(colour))
        made.append(Sample("squares", "image", "vqa", messages, (Media("image", key),), origin=str(number)))
    return made


def documents(count: int) -> list[Sample]:
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(TEXT.split(), size=random.integers(8, 60))) for _ in range(count)]
    return [Sample("words", "text", "document", (document(text),), origin=text) for text in texts]


def videos(store: MediaStore, frames: Path, count: int) -> list[Sample]:
    """Clips of four frames, two of each colour: which colour came first?"""
    made = []
    for number in range(count):
        first, second = list(COLOURS)[number % 4], list(COLOURS)[(number + 1 + number // 4 % 3) % 4]
        key = store.put_bytes(f"video {number}".encode(), ".mp4")
        pictures = [np.full((56, 56, 3), COLOURS[name], np.uint8) for name in (first, first, second, second)]
        table = pa.table({"time": [0.0, 0.5, 1.0, 1.5], "jpeg": [encode_jpeg(picture) for picture in pictures]})
        tables.write(table, frames / f"{key}.parquet")
        messages = (user(Part("video", media=(0,)), "which colour came first?"), assistant(first))
        made.append(Sample("clips", "video", "order", messages, (Media("video", key),), origin=str(number)))
    return made


def write_run(out: Path, held_out: int = 5) -> None:
    """Shards, manifest and tokenizer in `out`; every `held_out`-th sample of a corpus is held out."""
    store = MediaStore(out / "media")
    pool = [*questions(store, 120), *documents(80), *videos(store, out / "frames", 40)]
    train_bpe((sample.text for sample in pool), 600, out / "tokenizer" / "tiny")
    counter = tokens.Counter("tiny", out / "tokenizer" / "tiny", out / "frames", 2.0, 448)
    sizes = {media.key: (64, 64) for sample in pool for media in sample.media}
    counts = pa.Table.from_pylist([tokens.count(sample, counter, sizes) for sample in pool], schema=tokens.SCHEMA)
    split = ["heldout" if number % held_out == 0 else "train" for number in range(len(pool))]
    table = samples.to_table(pool).append_column("split", pa.array(split))
    table = table.append_column("shard", pa.array([0] * len(pool), pa.int64()))
    for name in tokens.MIXED:
        table = table.append_column(name, counts[name])
    layout = shards.Layout(out / "media", out / "frames", 2.0, 448, "tiny")
    folder = out / "shards"
    for name in ("train", "heldout"):
        rows = table.filter(pa.compute.equal(table["split"], name))
        shards.shard_partition(rows, layout=layout, folder=folder)
    shards.write_manifest(
        folder, sorted(folder.glob("*.tar")), {"preset": "tiny", "mixture": {"shares": SHARES, "max_repeats": 1}}
    )


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder nobody trains in."""
    out = tmp_path_factory.mktemp("run")
    write_run(out)
    return out


@pytest.fixture
def run_folder(shared_run: Path, tmp_path: Path) -> Path:
    """A run folder of one's own: its data is shared, its `train` is not."""
    for name in ("shards", "tokenizer"):
        (tmp_path / name).symlink_to(shared_run / name)
    return tmp_path


@pytest.fixture(scope="session")
def make_stage() -> Callable[..., Stage]:
    """A stage of few steps; keyword arguments change top-level keys."""

    def make(**changes: object) -> Stage:
        raw: dict[str, object] = {
            "stage": "stage2",
            "preset": "tiny",
            "init": {"tokenizer": "tokenizer/tiny"},
            "trainable": ["vision", "projector", "language"],
            "data": {"workers": 0},
            "context": 256,
            "rope_base": 10_000,
            "batch_tokens": 512,
            "steps": 4,
            "optimizer": {"lr": 1e-3, "warmup_steps": 2},
            "heldout": {"samples": 6},
            "checkpoint": {"every": 2},
        }
        return Stage.model_validate(raw | changes)

    return make
