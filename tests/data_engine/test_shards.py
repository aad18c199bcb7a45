"""Shards: plain WebDataset tars that strangers read, the same bytes for the same samples, indexed truly."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
import xxhash
from PIL import Image

from data_engine import catalog, shards, tables
from data_engine import sample as samples
from data_engine.clips import Clip
from data_engine.media import decode_image
from data_engine.stream.reader import Stream


def tars(run: Path) -> list[Path]:
    return sorted((run / "shards").glob("*.tar"))


def test_webdataset_reads_every_sample_unchanged(small_run: Path) -> None:
    urls = [str(path) for path in tars(small_run)]
    read = list(webdataset.WebDataset(urls, shardshuffle=False).decode("pil"))
    kept = {row["id"]: row for row in _kept(small_run)}
    assert {item["json"]["id"] for item in read} == set(kept) and len(read) == len(kept)
    for item in read:
        assert samples.from_row(item["json"]) == samples.from_row(kept[item["json"]["id"]])
        pictures = [value for name, value in item.items() if name.endswith((".jpg", ".png"))]
        assert all(isinstance(picture, Image.Image) for picture in pictures)
        assert bool(pictures) == bool(item["json"]["media"])


def _kept(run: Path) -> list[dict[str, Any]]:
    folders = [folder for name, folder in catalog.steps(run).items() if name.startswith("dedup.")]
    return [row for folder in folders for row in tables.rows(folder / "samples")]


def test_the_index_is_true_of_the_bytes(small_run: Path) -> None:
    for path in tars(small_run):
        content = path.read_bytes()
        with tarfile.open(path) as tar:
            names = tar.getnames()
        found = []
        for row in pq.read_table(path.with_suffix(".index.parquet")).to_pylist():
            piece = content[row["offset"] : row["offset"] + row["size"]]
            assert xxhash.xxh3_64_intdigest(piece) == row["xxh3"]
            found += [f"{row['key']}.{suffix}" for suffix, _ in shards.parse(piece)]
        assert found == names


def test_the_same_pool_gives_the_same_bytes(small_run: Path, tmp_path: Path) -> None:
    steps = catalog.steps(small_run)
    layout = shards.Layout(
        store=small_run / "media",
        frames=steps["shards"] / "_frames",
        fps=2.0,
        max_side=448,
        preset="tiny",
    )
    part = steps["mix"] / "pool" / "train-00000.parquet"
    shards.shard_partition(pq.read_table(part), layout=layout, folder=tmp_path)
    assert (tmp_path / "train-00000.tar").read_bytes() == (small_run / "shards/train-00000.tar").read_bytes()


def test_a_splice_is_where_the_answer_says(small_run: Path) -> None:
    """The frames on both sides of the answer differ far more than frames mostly do."""
    stream = Stream(small_run / "shards/manifest.json", seed=0, mixture={"video": 1.0}, corpora=["film"])
    splices = [item for item in stream if item.sample.task == "splice_time"]
    assert splices
    for item in splices:
        clip = item.media[0]
        assert isinstance(clip, Clip)
        change = next(i for i, t in enumerate(clip.times) if f"{t:.1f}" in item.sample.messages[-1].text)
        frames = [decode_image(frame).astype(np.int16) for frame in clip.frames]
        steps = [float(np.abs(a - b).mean()) for a, b in zip(frames, frames[1:], strict=False)]
        # The film has cuts of its own, so the splice need not be the largest change, only a great one.
        assert steps[change - 1] > 4 * float(np.median(steps))
        assert clip.is_slow[0] and clip.is_slow[change]


def test_opaque_rgb_originals_are_kept_as_they_are(small_run: Path) -> None:
    stream = Stream(small_run / "shards/manifest.json", seed=0, mixture={"image": 1.0}, corpora=["easy_vqa"])
    for item in list(stream)[:20]:
        original = (small_run / "media" / item.sample.media[0].key[:2] / item.sample.media[0].key).read_bytes()
        assert isinstance(item.media[0], bytes)
        assert (decode_image(item.media[0]) == decode_image(original)).all()


def test_splits_share_no_group(small_run: Path) -> None:
    pool = tables.read(catalog.steps(small_run)["mix"] / "pool")
    held = {row["id"] for row in pool.to_pylist() if row["split"] == "heldout"}
    assert 0 < len(held) < len(pool) / 2
    manifest = json.loads((small_run / "shards/manifest.json").read_text())
    assert set(manifest["splits"]) == {"train", "heldout"}


def test_pillow_opens_what_parse_finds() -> None:
    block = io.BytesIO()
    with tarfile.open(fileobj=block, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in (("k.json", b"{}"), ("k.0.001.jpg", b"x" * 513)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    content = block.getvalue()[: 512 + 512 + 512 + 1024]
    assert list(shards.parse(content)) == [("json", b"{}"), ("0.001.jpg", b"x" * 513)]


@pytest.mark.parametrize("side", [None, 64])
def test_large_images_are_shrunk_to_the_recipes_side(small_run: Path, side: int | None) -> None:
    steps = catalog.steps(small_run)
    row = next(r for r in tables.rows(steps["dedup.stamps"] / "samples"))
    layout = shards.Layout(small_run / "media", steps["shards"] / "_frames", 2.0, side, "tiny")
    found = shards.members(samples.from_row(row), 1, layout)
    height, width = decode_image(found[1][1]).shape[:2]
    original = decode_image((small_run / "media" / row["media"][0]["key"][:2] / row["media"][0]["key"]).read_bytes())
    assert max(height, width) == (max(original.shape) if side is None else min(side, max(original.shape)))
