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
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_engine import catalog, shard_index, shards, tables, tar_blocks
from data_engine import sample as samples
from data_engine.clips import Clip
from data_engine.media import decode_image
from data_engine.stream import Stream
from tests.data_engine.shard_truth import same_as_the_shards


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
            found += [f"{row['key']}.{suffix}" for suffix, _ in tar_blocks.parse(piece)]
        assert found == names


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_index_of_a_split_says_what_those_of_its_shards_say(small_run: Path, split: str) -> None:
    manifest = json.loads((small_run / "shards/manifest.json").read_text())
    index = shard_index.read(small_run / "shards" / manifest["indexes"][split])
    same_as_the_shards(index, small_run / "shards", split)
    assert {source.modality for source in index.sources} == {"video", "image", "text"}


def test_shards_end_at_so_many_bytes_and_hold_the_same_samples(small_run: Path, tmp_path: Path) -> None:
    """The cut follows from the rows alone; a sample that is larger than a shard has one to itself."""
    steps = catalog.steps(small_run)
    part = pq.read_table(steps["mix"] / "pool" / "train-00000.parquet")
    layout = shards.Layout(small_run / "media", steps["shards"] / "_frames", 2.0, 448, "tiny", max_bytes=100_000)
    index = shards.shard_partition(part, layout=layout, folder=tmp_path)["index"]
    files = sorted(tmp_path.glob("*.tar"))
    assert [file.name for file in files[:2]] == ["train-00000.tar", "train-00000_00001.tar"]
    assert index["shard"].unique().to_pylist() == [file.name for file in files]
    whole = pq.read_table(small_run / "shards/train-00000.index.parquet")
    for name in ("key", "id", "size", "xxh3"):
        assert index[name].to_pylist() == whole[name].to_pylist()
    counts = [tables.num_rows(shards.index_of(file)) for file in files]
    sizes = [file.stat().st_size for file in files]
    assert max(counts) > 1 and all(size <= 100_000 or count == 1 for size, count in zip(sizes, counts, strict=True))
    firsts = [pq.read_table(shards.index_of(file))["size"][0].as_py() for file in files[1:]]
    assert all(size + first > 100_000 for size, first in zip(sizes, firsts, strict=False))
    shards.write_manifest(tmp_path, files, {})
    same_as_the_shards(shard_index.read(tmp_path / "train.index.arrow"), tmp_path, "train")


def test_stored_sizes_of_images_are_told(small_run: Path) -> None:
    for item in webdataset.WebDataset(list(map(str, tars(small_run))), shardshuffle=False).decode("pil"):
        for number, about in enumerate(item["json"]["shown"]):
            if about["kind"] == "image":
                picture = next(value for name, value in item.items() if name.startswith(f"{number}."))
                assert (about["width"], about["height"]) == picture.size


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


KEYS = st.text(st.characters(blacklist_characters="./\0", blacklist_categories=["Cs"]), min_size=1, max_size=20)


@given(
    KEYS, st.lists(st.tuples(st.sampled_from(["0.jpg", "1.002.jpg", "2.png"]), st.binary(max_size=1500)), max_size=4)
)
def test_blocks_are_what_tarfile_writes_and_come_apart_again(key: str, media: list[tuple[str, bytes]]) -> None:
    members = [("json", b"{}"), *media]
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for suffix, data in members:
            info = tarfile.TarInfo(f"{key}.{suffix}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        end = tar.offset
    content = tar_blocks.block(key, members)
    assert content == expected.getvalue()[:end]
    for buffer in (content, bytearray(content), memoryview(content), np.frombuffer(content, np.uint8)):
        assert tar_blocks.parse(buffer) == members
        assert tar_blocks.media_views(buffer) == [data for _, data in media]


def test_what_no_header_can_tell_is_refused() -> None:
    with pytest.raises(ValueError, match=r"xx\.json: a name of 101 bytes"):
        tar_blocks.header("x" * 96 + ".json", 1)
    with pytest.raises(ValueError, match="a size of 8589934592"):
        tar_blocks.header("k.mp4", 8 << 30)
    assert tarfile.TarInfo.frombuf(tar_blocks.header("k.mp4", (8 << 30) - 1), "utf-8", "strict").size == (8 << 30) - 1


@pytest.mark.parametrize("side", [None, 64])
def test_large_images_are_shrunk_to_the_recipes_side(small_run: Path, side: int | None) -> None:
    steps = catalog.steps(small_run)
    row = next(r for r in tables.rows(steps["dedup.stamps"] / "samples"))
    layout = shards.Layout(small_run / "media", steps["shards"] / "_frames", 2.0, side, "tiny")
    found = shards.members(samples.from_row(row), 1, layout)
    height, width = decode_image(found[1][1]).shape[:2]
    original = decode_image((small_run / "media" / row["media"][0]["key"][:2] / row["media"][0]["key"]).read_bytes())
    assert max(height, width) == (max(original.shape) if side is None else min(side, max(original.shape)))
