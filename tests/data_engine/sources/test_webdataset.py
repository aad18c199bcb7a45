"""Tars written by the webdataset library, and by hand where they are wrong."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from data_engine.media import MediaStore
from data_engine.sources import webdataset as reader
from tests.data_engine.sources.helpers import png, read_all, reasons

TURNS = [{"from": "human", "value": "<image> or <image>?"}, {"from": "gpt", "value": "The first."}]


def member(name: str, data: bytes = b"words", **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def pack(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    with tarfile.open(path, "w") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path.read_bytes()


def pair(key: str, shade: int = 0) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member(f"{key}.png", png(shade=shade)), member(f"{key}.txt", f"Shade {shade}.".encode())]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_what_webdataset_writes_is_read(name, root, store):
    with webdataset.TarWriter(str(root / name)) as sink:
        sink.write({"__key__": "0", "png": png(shade=1), "txt": "A dark square."})
        sink.write(
            {"__key__": "1", "png": png(shade=2), "json": {"caption": "一个方块。", "licence": "CC0", "url": "x"}}
        )
        sink.write(
            {"__key__": "d/2", "left.png": png(shade=3), "right.png": png(shade=4), "json": {"conversations": TURNS}}
        )
        sink.write({"__key__": "3", "jpg": b"\xff\xd8\xff", "caption": b"Short."})
        sink.write(
            {
                "__key__": "4",
                "json": {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            }
        )
    good, bad = read_all(reader, root, store)
    assert bad == []
    assert [sample.origin for sample in good] == [f"{name}#{key}" for key in ("0", "1", "d/2", "3", "4")]
    assert [[store.read(m.key) for m in s.media] for s in good[:3]] == [
        [png(shade=1)],
        [png(shade=2)],
        [png(shade=3), png(shade=4)],
    ]
    assert [s.messages[-1].text for s in good] == ["A dark square.", "一个方块。", "The first.", "Short.", "b"]
    assert good[1].licence == "CC0" and good[0].licence == "MIT"
    assert any("一" <= char <= "鿿" for char in good[1].messages[0].text)
    assert [part.kind for part in good[2].messages[0].parts] == ["image", "text", "image", "text"]


def test_each_fault_is_told_by_member_or_key_and_the_rest_is_read(root, store):
    link = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
    hard = {"type": tarfile.LNKTYPE, "linkname": "ok.png"}
    faults = {
        "../up.png": ([member("../up.png", png())], "climbs out"),
        "/root.png": ([member("/root.png", png())], "climbs out"),
        "a/../../b.png": ([member("a/../../b.png", png())], "climbs out"),
        "soft.png": ([member("soft.png", b"", **link)], "a link, not a file"),
        "hard.png": ([member("hard.png", b"", **hard)], "a link, not a file"),
        "null.png": ([member("null.png", b"", type=tarfile.CHRTYPE)], "a device or pipe"),
        "pipe.png": ([member("pipe.png", b"", type=tarfile.FIFOTYPE)], "a device or pipe"),
        "d/.png": ([member("d/.png", png())], "no key"),
        "alone": ([member("alone.png", png())], "no .txt, .caption or .json"),
        "mute": ([member("mute.txt")], "needs one image, the key has 0"),
        "two": ([member("two.png", png()), member("two.a.png", png()), member("two.txt")], "the key has 2"),
        "twice": ([member("twice.png", png()), member("twice.png", png()), member("twice.txt")], "holds .png twice"),
        "latin": ([member("latin.png", png()), member("latin.txt", b"caf\xe9")], "not UTF-8 at byte 3"),
        "nul": ([member("nul.png", png()), member("nul.txt", b"a\0b")], "NUL byte"),
        "blank": ([member("blank.png", png()), member("blank.txt", b" \n")], "empty"),
        "html": ([member("html.jpg", b"<html>404"), member("html.txt")], "not an image"),
        "none": ([member("none.jpg", b""), member("none.txt")], "empty"),
        "bad": ([member("bad.png", png()), member("bad.json", b"{")], "not JSON"),
        "list": ([member("list.png", png()), member("list.json", b"[]")], "must be an object"),
        "wordless": ([member("wordless.png", png()), member("wordless.json", b"{}")], "missing"),
        "few": ([member("few.png", png()), member("few.json", json.dumps({"messages": TURNS}).encode())], "shows 2"),
        "huge": ([member("huge.png", png()), member("huge.txt", bytes(50_000_001))], "50,000,001 bytes"),
    }
    members = [item for group, _ in faults.values() for item in group]
    pack(root / "a.tar", *pair("ok", 1), *members, *pair("fine", 2))
    good, bad = read_all(reader, root, store)
    assert [sample.origin for sample in good] == ["a.tar#ok", "a.tar#fine"]
    found = reasons(bad)
    assert found.keys() == {f"a.tar#{name}" for name in faults}
    for name, (_, reason) in faults.items():
        assert reason in found[f"a.tar#{name}"][1], (name, found)
    assert not list(root.parent.glob("*.png"))


def test_members_of_a_key_that_do_not_stand_side_by_side(root, store):
    first, second = pair("0")
    pack(root / "a.tar", first, *pair("1", 1), second)
    good, bad = read_all(reader, root, store)
    assert [sample.origin for sample in good] == ["a.tar#1"]
    assert "side by side" in reasons(bad)["a.tar#0.txt"][1] and "a.tar#0" in reasons(bad)


@pytest.mark.parametrize("packed", [False, True])
def test_wherever_a_tar_is_cut_the_whole_records_are_kept_and_the_cut_is_told(packed, root, store):
    data = pack(root / "a.tar", *pair("0"), *pair("1", 1), *pair("2", 2))
    blocks = len(data.rstrip(b"\0")) // 512 + 1
    (root / "a.tar").unlink()
    path = root / ("a.tar.gz" if packed else "a.tar")
    for end in range(0, blocks * 512, 300):
        cut = gzip.compress(data, mtime=0) if packed else data
        path.write_bytes(cut[: int(len(cut) * end / (blocks * 512) * 0.9)] if packed else cut[:end])
        good, bad = read_all(reader, root, store)
        assert [s.origin for s in good] == [f"{path.name}#{n}" for n in range(len(good))]
        assert path.name in reasons(bad), (end, bad)
        if not packed:
            assert len(good) == end // (4 * 512), (end, bad)


def test_a_tar_of_nothing(root, store):
    pack(root / "a.tar")
    (root / "b.tar").touch()
    good, bad = read_all(reader, root, store)
    assert good == [] and reasons(bad) == {"a.tar": ("file", "holds no file"), "b.tar": ("file", "empty file")}


@given(st.binary(max_size=1500), st.integers(0, 2500))
def test_any_bytes_are_read_or_told(tmp_path_factory, noise, at):
    folder = tmp_path_factory.mktemp("corpus")
    data = pack(folder / "a.tar", *pair("0"), *pair("1", 1))
    (folder / "a.tar").write_bytes(data[:at] + noise + data[at + len(noise) :])
    good, bad = read_all(reader, folder, MediaStore(folder / "store"))
    assert good or bad
