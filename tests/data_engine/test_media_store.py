"""One store, on a disk and in an object store that really speaks S3: the same promises."""

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from data_engine import catalog, ingest, tables
from data_engine.curate import curate
from data_engine.media import MediaStore, RemoteFiles, store_of
from data_engine.recipe import Corpus, Source, load_recipe
from data_engine.releases import gc
from data_engine.removal import remove
from data_engine.sample import from_table
from data_engine.selector import Selector
from strict_yaml import RecipeError
from tests import small_corpora as small
from tests.data_engine import object_store
from tests.data_engine.sources.helpers import png


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_store.bucket("media") as name:
        yield name


@pytest.fixture(params=["folder", "s3", "s3 as a path"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MediaStore:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if request.param == "folder":
        return MediaStore(tmp_path / "store")
    bucket = request.getfixturevalue("bucket")
    address = f"s3://{bucket}/{tmp_path.name}"
    return MediaStore(Path(address) if request.param == "s3 as a path" else address)


def names(store: MediaStore) -> list[str]:
    """Everything in the store, by its own listing."""
    if not store.remote:
        return sorted(path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file())
    prefix = store.remote.address.removeprefix("s3://media/")
    found = boto3.client("s3").list_objects_v2(Bucket="media", Prefix=prefix)
    return sorted(item["Key"].removeprefix(f"{prefix}/") for item in found.get("Contents", []))


def test_content_is_kept_once_and_read_back(store, tmp_path):
    (tmp_path / "a.PNG").write_bytes(b"content")
    key = store.put_bytes(b"content", ".png")
    assert store.put_file(tmp_path / "a.PNG") == key == store.put_bytes(b"content", ".PNG")
    assert store.read(key) == b"content" and store.has(key)
    assert store.local(key).read_bytes() == b"content" and store.local(key).suffix == ".png"
    assert names(store) == [f"{key[:2]}/{key}"]


def test_what_is_not_there(store):
    absent = "0" * 64 + ".png"
    assert not store.has(absent)
    for ask in (store.read, lambda key: store.local(key).read_bytes()):
        with pytest.raises(FileNotFoundError):
            ask(absent)
    assert not list(Path.home().rglob(".incoming-*"))


def test_a_large_file_is_streamed_and_whole(store, tmp_path):
    data = bytes(range(256)) * (12_000_000 // 256)
    (tmp_path / "film.mp4").write_bytes(data)
    key = store.put_file(tmp_path / "film.mp4")
    assert store.read(key) == data and store.local(key).read_bytes() == data


def test_notes_are_kept_beside_and_replaced(store):
    name = "urls/" + "a" * 64
    assert store.note(name) is None
    store.put_note(name, b"one")
    store.put_note(name, b"two")
    assert store.note(name) == b"two"
    assert names(store) == [f"urls/aa/{'a' * 64}"]


@pytest.mark.parametrize("key", ["../../etc/passwd", "", "ab", "/" + "a" * 64])
def test_what_is_not_a_key_reaches_nothing(store, key):
    for ask in (store.path, store.read, store.local, store.has, store.note):
        with pytest.raises(ValueError, match="not a"):
            ask(key)


def test_a_remote_store_has_no_paths(bucket):
    with pytest.raises(ValueError, match=r"s3://media/x has no local paths; use MediaStore\.local"):
        MediaStore("s3://media/x").path("0" * 64)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    store = MediaStore(tmp_path / "store")
    (tmp_path / "a.bin").write_bytes(b"x" * 100)

    def fail(*rest: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("shutil.copyfileobj", fail)
    with pytest.raises(OSError, match="disk full"):
        store.put_file(tmp_path / "a.bin")
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_a_local_copy_is_fetched_once(bucket, tmp_path):
    files = RemoteFiles(f"s3://{bucket}/once", cache=tmp_path / "cache")
    files.write("ab/x", b"first")
    copy = files.local("ab/x")
    files.write("ab/x", b"second")
    assert files.local("ab/x") == copy and copy.read_bytes() == b"first"
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == ["x"]


def test_an_ingest_into_an_object_store_gives_what_one_into_a_folder_gives(bucket, tmp_path):
    root = tmp_path / "corpus"
    root.mkdir()
    for n in range(5):
        (root / f"{n}.png").write_bytes(png(shade=n // 2))
        (root / f"{n}.txt").write_text(f"Picture {n}.")
    (root / "5.png").write_bytes(png())
    source = Source(format="captions", path=".", modality="image", task="caption", licence="MIT")
    corpus = Corpus(corpus="c", sources=[source])
    units = ingest.list_units(corpus, root)
    folder, remote = str(tmp_path / "store"), f"s3://{bucket}/ingest"
    here = ingest.ingest_partition(units, corpus=corpus, root=root, store=folder)
    there = ingest.ingest_partition(units, corpus=corpus, root=root, store=remote)
    assert here["samples"].equals(there["samples"]) and here["quarantine"].equals(there["quarantine"])
    assert names(MediaStore(folder)) == names(MediaStore(remote)) and len(names(MediaStore(folder))) == 3
    for sample in from_table(there["samples"]):
        assert MediaStore(remote).read(sample.media[0].key) == MediaStore(folder).read(sample.media[0].key)


def test_a_whole_run_keeps_its_media_in_an_object_store(
    corpora, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read, probed, sharded and removed as on a disk: the shards are the same, and nothing is kept beside the run."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    small._some(corpora / "stamps", tmp_path / "corpora/stamps", 8)
    address = f"s3://{bucket}/{tmp_path.name}/run"

    def run(name: str, **more: str) -> Path:
        source = {"format": "captions", "path": "stamps", "modality": "image", "task": "caption", "licence": "GPL-2.0"}
        recipe = {"root": str(tmp_path / "corpora"), "corpus": "stamps", "sources": [source], **more}
        recipe["mixture"] = {"shares": {"image": 1.0}}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(recipe))
        assert not curate(load_recipe(tmp_path / f"{name}.yaml"), tmp_path / name, runner="local").failed
        return tmp_path / name

    there, here = run("there", media=address), run("here")
    assert not (there / "media").exists() and store_of(there) == Path(address)
    shards = [{tar.name: tar.read_bytes() for tar in (out / "shards").glob("*.tar")} for out in (there, here)]
    assert shards[0] == shards[1] and shards[0]
    kept, known = MediaStore(address), tables.rows(catalog.steps(there)["dedup.stamps"] / "samples")
    assert names(kept) == sorted(f"{key[:2]}/{key}" for key in {row["media"][0]["key"] for row in known})
    gone = remove(there, Selector("origin", known[0]["origin"]), "asked")
    assert gone.media and not any(kept.has(key) for key in gone.media)
    assert not [freed for freed in gc(there, now=4e9) if freed.kind == "media"]
    with pytest.raises(RecipeError, match="keeps its media in"):
        curate(load_recipe(tmp_path / "here.yaml"), there, runner="local")
