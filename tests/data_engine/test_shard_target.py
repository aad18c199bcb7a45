"""Shards in an object store: what is there is not sent again, and a manifest is never there before its shards."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import orjson
import pytest

from data_engine.recipe import load_recipe
from data_engine.sample import Sample, document
from data_engine.shard_target import LANES, Sent, TargetError, upload
from data_engine.shards import Layout, members, write_manifest, write_shard
from data_engine.stream import Stream
from strict_yaml import RecipeError
from tests.data_engine import object_store
from tests.data_engine.small_shards import packed, write


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_store.bucket("shards") as name:
        yield name


@pytest.fixture
def target(bucket: str, tmp_path: Path) -> str:
    return f"s3://{bucket}/{tmp_path.name}"


def stored(target: str) -> dict[str, tuple[bytes, Any]]:
    """Content and time of every object but the notes, by name, as the store itself has them."""
    store, (name, _, prefix) = boto3.client("s3"), target.removeprefix("s3://").partition("/")
    listed = store.list_objects_v2(Bucket=name, Prefix=f"{prefix}/").get("Contents", [])
    keys = {one["Key"]: one["LastModified"] for one in listed if "/.xxh3/" not in one["Key"]}
    return {
        key.removeprefix(f"{prefix}/"): (store.get_object(Bucket=name, Key=key)["Body"].read(), time)
        for key, time in keys.items()
    }


def contents(target: str) -> dict[str, bytes]:
    return {name: content for name, (content, _) in stored(target).items()}


def local(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def whole(told: dict[str, bytes]) -> bool:
    """Whether everything that the manifest lists is there, with as many bytes; or there is no manifest."""
    if "manifest.json" not in told:
        return True
    about = json.loads(told["manifest.json"])
    entries = [entry for entries in about["splits"].values() for entry in entries]
    return all(len(told.get(entry["file"], b"")) == entry["bytes"] for entry in entries) and all(
        name in told for name in about["indexes"].values()
    )


def test_all_is_sent_once(target: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "shards")
    first = upload(folder, target)
    files = len(local(folder)) - 1
    assert contents(target) == local(folder) and (first.sent, first.there, first.deleted) == (files, 0, 0)
    assert upload(folder, f"{target}/") == Sent(0, files, 0, 0)
    # Lost there, changed there to another size, and changed here to one of the same size.
    store, (name, _, prefix) = boto3.client("s3"), target.removeprefix("s3://").partition("/")
    store.delete_object(Bucket=name, Key=f"{prefix}/train-00000.tar")
    store.put_object(Bucket=name, Key=f"{prefix}/train-00001.tar", Body=b"short")
    index = folder / "heldout.index.arrow"
    index.write_bytes(index.read_bytes()[:-1] + b"x")
    assert upload(folder, target).sent == 3 and contents(target) == local(folder)


@pytest.mark.parametrize("after", [0, 1, 4])
def test_an_upload_cut_short_goes_on(target: str, tmp_path: Path, after: int) -> None:
    """No manifest is there before all else is; the second upload sends what the first has not."""
    folder = write(tmp_path / "shards")

    def stop(done: int, total: int) -> None:
        assert "manifest.json" not in contents(target)
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upload(folder, target, stop)
    before = contents(target)
    assert "manifest.json" not in before and len(before) <= after + LANES
    rest = upload(folder, target)
    assert contents(target) == local(folder) and rest.there == len(before)
    assert rest.sent + rest.there == len(local(folder)) - 1


def test_other_shards_take_the_place_of_the_former(target: str, tmp_path: Path) -> None:
    """What was sent and is no more is deleted; what somebody else has put there stays; no manifest is ever untrue."""
    upload(write(tmp_path / "old"), target)
    store, (name, _, prefix) = boto3.client("s3"), target.removeprefix("s3://").partition("/")
    store.put_object(Bucket=name, Key=f"{prefix}/notes.tar", Body=b"mine")
    new = tmp_path / "new"
    write_shard(new / "train-00000.tar", [packed(f"00000{place:06d}", sample_of(place)) for place in range(3)])
    write_manifest(new, [new / "train-00000.tar"], {"mixture": {"shares": {"text": 1.0}}})
    seen = []

    def stop(done: int, total: int) -> None:
        seen.append(whole(contents(target)))
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upload(new, target, stop)
    sent = upload(new, target, lambda done, total: seen.append(whole(contents(target))))
    assert all(seen) and whole(contents(target)) and len(seen) > 2
    assert contents(target) == {**local(new), "notes.tar": b"mine"} and sent.deleted == 5
    assert [item.sample.task for item in Stream(f"{target}/manifest.json", seed=0)] == ["document"] * 3


def sample_of(number: int) -> list[tuple[str, bytes]]:
    sample = Sample("words", "text", "document", (document(f"line {number}"),))
    return [(name, bytes(data)) for name, data in members(sample, 5, Layout(Path(), Path(), 2.0, 448, "tiny"))]


def test_an_epoch_from_the_store_is_that_of_the_disk(target: str, small_run: Path) -> None:
    upload(small_run / "shards", target)
    here, there = (Stream(f"{where}/manifest.json", seed=0) for where in (small_run / "shards", target))
    places, items = len(here), list(here)
    assert list(there) == items and len(items) == places > 50
    assert here.state_dict() == there.state_dict()


def test_a_store_that_cannot_be_reached(tmp_path: Path) -> None:
    folder = write(tmp_path / "shards")
    with pytest.raises(TargetError, match=r"shards\.target: nowhere://x/y: ValueError: Protocol not known: nowhere"):
        upload(folder, "nowhere://x/y")


def test_a_target_is_an_address(tmp_path: Path) -> None:
    source = {"format": "captions", "path": ".", "licence": "MIT", "modality": "image", "task": "caption"}
    recipe = {"corpus": "c", "sources": [source], "shards": {"target": "some/folder"}}
    (tmp_path / "recipe.yaml").write_bytes(orjson.dumps(recipe))
    with pytest.raises(RecipeError, match=r"shards\.target"):
        load_recipe(tmp_path / "recipe.yaml")
