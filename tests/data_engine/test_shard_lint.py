"""Lint: every fault that is planted in shards is found, where it is, and nothing else is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from data_engine import shard_index, shards, tables, tar_blocks
from data_engine.cli import app
from data_engine.shard_faults import Fault
from data_engine.shard_lint import LintError, lint
from tests.data_engine.small_shards import packed, sample, write

TAR, INDEX, SPLIT, MANIFEST = "train-00000.tar", "train-00000.index.parquet", "train.index.arrow", "manifest.json"

Found = set[tuple[str, str, Fault]]


def found(folder: Path, **options: Any) -> Found:
    told = lint(folder, **options)
    assert len({(one.file, one.key, one.fault, one.what) for one in told}) == len(told)
    return {(one.file, one.key, one.fault) for one in told}


def row(folder: Path, number: int) -> dict[str, Any]:
    return pq.read_table(folder / INDEX).to_pylist()[number]


def key(number: int) -> str:
    return f"train-00000-{number:06d}"


@pytest.mark.parametrize("quick", [True, False])
def test_sound_shards_have_no_faults(tmp_path: Path, quick: bool) -> None:
    assert lint(write(tmp_path), quick=quick) == lint(tmp_path / MANIFEST, quick=quick, processes=2) == []


def test_a_real_run_has_no_faults(small_run: Path) -> None:
    assert lint(small_run / "shards") == lint(small_run / "shards", quick=True) == []


def edit(path: Path, change: Callable[[bytearray], None]) -> None:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


@pytest.mark.parametrize("within", [0, 20, 130, 600, -600, -1])
def test_one_wrong_bit_is_one_bad_checksum(tmp_path: Path, within: int) -> None:
    """In a header's name, its size, the JSON, a picture, or the zeros behind it."""
    where = row(write(tmp_path), 4)
    at = where["offset"] + within % where["size"]

    def flip(content: bytearray) -> None:
        content[at] ^= 1

    edit(tmp_path / TAR, flip)
    assert found(tmp_path) == {(TAR, key(4), "bad checksum")}
    assert found(tmp_path, quick=True) == set()


def test_two_damaged_samples_side_by_side_and_one_at_the_end(tmp_path: Path) -> None:
    write(tmp_path)
    for number in (2, 3, 7):
        at = row(tmp_path, number)["offset"] + 124  # the size of its first member

        def overwrite(content: bytearray, at: int = at) -> None:
            content[at : at + 11] = b"77777777777"

        edit(tmp_path / TAR, overwrite)
    assert found(tmp_path) == {(TAR, key(number), "bad checksum") for number in (2, 3, 7)}


@pytest.mark.parametrize("lacking", [1, 1024, 1025, 4000, 9000])
def test_a_cut_archive_is_one_fault(tmp_path: Path, lacking: int) -> None:
    path = write(tmp_path) / TAR
    path.write_bytes(path.read_bytes()[:-lacking])
    (told,) = lint(tmp_path)
    assert (told.file, told.key, told.fault) == (TAR, "", "truncated")
    left = path.stat().st_size
    lost = sum(one["offset"] + one["size"] > left for one in pq.read_table(tmp_path / INDEX).to_pylist())
    assert f"{lost} samples are lost" in told.what
    assert found(tmp_path, quick=True) == {(TAR, "", "truncated")}


def test_an_empty_file_is_a_cut_archive(tmp_path: Path) -> None:
    (write(tmp_path) / TAR).write_bytes(b"")
    assert found(tmp_path) == {(TAR, "", "truncated")}


def planted(folder: Path, change: Callable[[list[shards.Packed]], list[shards.Packed]]) -> Path:
    """The first shard as a faulty writer would have written it, index and all."""
    return write(folder, lambda name, told: change(told) if name == TAR else told)


def test_unordered_keys(tmp_path: Path) -> None:
    planted(tmp_path, lambda told: [*told[:3], told[4], told[3], *told[5:]])
    assert found(tmp_path) == {(TAR, key(3), "unordered keys")}


def test_keys_that_two_shards_have(tmp_path: Path) -> None:
    def held(name: str, told: list[shards.Packed]) -> list[shards.Packed]:
        """The held-out shard begins with three keys of the first shard."""
        if name != "heldout-00000.tar":
            return told
        return [packed(key(n if n < 3 else 100 + n), sample(20 + n)) for n in range(8)]

    (one,) = lint(write(tmp_path, held))
    assert (one.file, one.key, one.fault) == ("heldout-00000.tar", key(0), "duplicate key")
    assert one.what == "train-00000.tar has it, too (and 2 more)" and found(tmp_path, quick=True) == found(tmp_path)


def test_a_frame_that_is_not_there(tmp_path: Path) -> None:
    def drop(told: list[shards.Packed]) -> list[shards.Packed]:
        whole = sample(1)
        return [told[0], (told[1][0], tar_blocks.block(key(1), [*whole[:2], *whole[3:]])), *told[2:]]

    planted(tmp_path, drop)
    assert [(one.key, one.fault, one.what) for one in lint(tmp_path)] == [(key(1), "missing member", "no 0.001.jpg")]


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    planted(tmp_path, lambda told: [(told[0][0], tar_blocks.block(key(0), sample(0)[:1])), *told[1:]])
    assert [(one.key, one.fault, one.what) for one in lint(tmp_path)] == [(key(0), "missing member", "no 0.jpg")]


@pytest.mark.parametrize("suffix", ["2.jpg", "0.jpg", "0.png", "txt", "0.003.jpg"])
def test_a_foreign_member(tmp_path: Path, suffix: str) -> None:
    """Of no medium, a second file of one, the same twice, none at all, and a frame of what is no clip."""
    planted(
        tmp_path,
        lambda told: [*told[:2], (told[2][0], tar_blocks.block(key(2), [*sample(2), (suffix, b"x")])), *told[3:]],
    )
    (one,) = lint(tmp_path)
    assert (one.file, one.key, one.fault) == (TAR, key(2), "foreign member")


def test_a_member_apart_from_its_key(tmp_path: Path) -> None:
    """The last picture stands at the end of the tar, where a reader of tars makes a sample of its own of it."""
    write(tmp_path)
    content = (tmp_path / TAR).read_bytes()
    where = row(tmp_path, 0)
    cut = where["offset"] + where["size"] - len(tar_blocks.block(key(0), sample(0)[1:]))
    end = where["offset"] + where["size"]
    moved = content[:cut] + content[end : -len(tar_blocks.END)] + content[cut:end] + tar_blocks.END
    (tmp_path / TAR).write_bytes(moved)
    told = found(tmp_path)
    assert (TAR, key(0), "half sample") in told
    # All behind the gap moved as well, which no index says.
    assert told == {(TAR, key(0), "half sample"), (INDEX, key(1), "index drift"), (SPLIT, key(1), "index drift")}


@pytest.mark.parametrize("spoilt", [b"", b"{", b"[]", b'{"shown": 3}', b'{"shown": [{"kind": "video"}]}'])
def test_a_sample_without_its_json(tmp_path: Path, spoilt: bytes) -> None:
    media = sample(0)[1:]
    parts = [("json", spoilt), *media] if spoilt else media
    planted(tmp_path, lambda told: [(told[0][0], tar_blocks.block(key(0), parts)), *told[1:]])
    assert found(tmp_path) == {(TAR, key(0), "half sample")}


def reindexed(folder: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    tables.write(change(pq.read_table(folder / INDEX)), folder / INDEX)


def other(table: pa.Table, name: str, number: int, value: Any) -> pa.Table:
    values = table[name].to_pylist()
    values[number] = value
    return table.set_column(table.schema.get_field_index(name), name, pa.array(values, table.schema.field(name).type))


DRIFT = {"offset": 512, "size": 512, "xxh3": 7, "tokens": 1, "pictures": 99, "id": "0" * 24, "corpus": "other",
         "modality": "video", "task": "other"}  # fmt: skip


@pytest.mark.parametrize("name", DRIFT)
def test_a_shards_index_that_differs(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    reindexed(tmp_path, lambda table: other(table, name, 3, DRIFT[name]))
    (told,) = lint(tmp_path)
    assert (told.file, told.key, told.fault) == (INDEX, key(3), "index drift") and told.what.startswith(name)


@pytest.mark.parametrize("name", ["visual_tokens", "squared_patches"])
@pytest.mark.parametrize("quick", [True, False])
def test_what_only_the_indexes_say_must_be_one(tmp_path: Path, name: str, quick: bool) -> None:
    write(tmp_path)
    reindexed(tmp_path, lambda table: other(table, name, 3, 5))
    assert found(tmp_path, quick=quick) == {(SPLIT, key(3), "index drift")}


@pytest.mark.parametrize(
    "name",
    ["offset", "size", "xxh3", "tokens", "visual_tokens", "pictures", "squared_patches", "shard", "id", "source"],
)
def test_the_splits_index_that_differs(tmp_path: Path, name: str) -> None:
    index = shard_index.read((write(tmp_path) / SPLIT).read_bytes())
    columns = {column: getattr(index, column).copy() for column in shard_index.SCHEMA.names if column != "id"}
    columns["id"] = index.binary_ids
    if name == "id":
        columns["id"] = shard_index.binary_ids(["0" * 24, *(index.id(number) for number in range(1, len(index)))])
    else:
        columns[name][0] += 1
    shard_index.write(tmp_path / SPLIT, columns, index.sources, index.shards)
    where = {("", "index drift")} if name == "shard" else {(key(0), "index drift")}
    assert {(told.file, told.fault) for told in lint(tmp_path)} == {(SPLIT, "index drift")}
    assert {(told.key, told.fault) for told in lint(tmp_path)} == where
    assert {told.file for told in lint(tmp_path, quick=True)} == {SPLIT}


def test_a_row_that_an_index_lacks_or_has_too_many(tmp_path: Path) -> None:
    write(tmp_path)
    whole = pq.read_table(tmp_path / INDEX)
    reindexed(tmp_path, lambda table: pa.concat_tables([table[:3], table[4:]]))
    assert found(tmp_path) == {(INDEX, key(3), "index drift")}
    tables.write(pa.concat_tables([whole, other(whole[:1], "key", 0, "stray")]), tmp_path / INDEX)
    assert found(tmp_path) == {(INDEX, "stray", "index drift")}


def test_a_spoilt_index(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / INDEX).write_bytes(b"PAR1")
    assert found(tmp_path) == {(INDEX, "", "index drift")}


def test_a_wrong_bit_in_the_splits_index(tmp_path: Path) -> None:
    write(tmp_path)
    index = shard_index.read((tmp_path / SPLIT).read_bytes())

    def flip(content: bytearray) -> None:
        content[content.index(index.tokens.tobytes())] ^= 1

    edit(tmp_path / SPLIT, flip)
    assert found(tmp_path) == found(tmp_path, quick=True) == {(SPLIT, "", "index drift")}
    (tmp_path / SPLIT).write_bytes(b"no Arrow")
    assert found(tmp_path) == {(SPLIT, "", "index drift")}


@pytest.mark.parametrize("name", [TAR, INDEX, SPLIT, "heldout-00000.tar"])
def test_files_that_are_missing(tmp_path: Path, name: str) -> None:
    (write(tmp_path) / name).unlink()
    assert found(tmp_path) == found(tmp_path, quick=True) == {(name, "", "missing file")}


@pytest.mark.parametrize("name", ["train-00002.tar", "train-00002.index.parquet", "other.index.arrow", ".incoming-0a"])
def test_files_that_no_manifest_lists(tmp_path: Path, name: str) -> None:
    (write(tmp_path) / name).touch()
    assert found(tmp_path) == found(tmp_path, quick=True) == {(name, "", "unlisted file")}


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about["splits"]["heldout"][0].update(samples=9),
        lambda about: about["splits"]["heldout"][0].update(bytes=5),
        lambda about: about["shardlist"].reverse(),
        lambda about: about["indexes"].update(train="else.index.arrow"),
    ],
)
def test_a_manifest_that_differs(tmp_path: Path, change: Callable[[Any], None]) -> None:
    about = json.loads((write(tmp_path) / MANIFEST).read_text())
    change(about)
    (tmp_path / MANIFEST).write_text(json.dumps(about))
    assert (MANIFEST, "", "index drift") in found(tmp_path)
    assert {file for file, _, _ in found(tmp_path)} <= {MANIFEST, SPLIT, "else.index.arrow"}


def test_shards_of_another_order(tmp_path: Path) -> None:
    about = json.loads((write(tmp_path) / MANIFEST).read_text())
    for listed in (about["splits"]["train"], about["shardlist"]):
        listed.reverse()
    (tmp_path / MANIFEST).write_text(json.dumps(about))
    assert found(tmp_path) == {(SPLIT, "", "index drift")}


def test_a_shard_of_another_run(tmp_path: Path) -> None:
    """Whole in itself, but not what the index of its split is of."""
    write(tmp_path)
    shards.write_shard(tmp_path / TAR, [packed(key(n), sample(100 + n)) for n in range(8)])
    told = found(tmp_path)
    assert {file for file, _, _ in told} == {SPLIT} and {fault for _, _, fault in told} == {"index drift"}


def test_what_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(LintError, match=r"no manifest here; give a manifest\.json or its folder"):
        lint(tmp_path)
    for content in ("{", "[]", "{}", '{"splits": {"train": [{}]}}'):
        (tmp_path / MANIFEST).write_text(content)
        with pytest.raises(LintError, match="not a manifest of shards"):
            lint(tmp_path)


def test_the_command(tmp_path: Path) -> None:
    run = CliRunner().invoke
    write(tmp_path)
    sound = run(app, ["lint", str(tmp_path)])
    assert sound.exit_code == 0 and "no faults" in sound.output
    (tmp_path / "train-00001.tar").unlink()
    faulty = run(app, ["lint", str(tmp_path / MANIFEST), "--quick"])
    assert faulty.exit_code == 1 and "train-00001.tar: missing file: the manifest lists it; copy it" in faulty.output
    told = json.loads(run(app, ["lint", str(tmp_path), "--json"]).output)
    assert [(one["file"], one["fault"]) for one in told] == [("train-00001.tar", "missing file")]
    (tmp_path / MANIFEST).unlink()
    wrong = run(app, ["lint", str(tmp_path)])
    assert wrong.exit_code == 2 and len(wrong.output.strip().splitlines()) == 1
