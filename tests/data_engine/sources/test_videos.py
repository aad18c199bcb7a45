"""Videos with words beside them; what is no text, or no file, is told."""

from pathlib import Path
from typing import Any

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Sample
from data_engine.sources import videos

SRT = (
    "1\n00:00:01,000 --> 00:00:02,500\n<i>Hello</i> there.\n\n2\n00:00:02,600 --> 00:00:04,000\nHello there.\n你好。\n"
)
VTT = (
    "WEBVTT\n\nNOTE a remark\n\n00:01.000 --> 00:02.500 align:start\n<v Ann>Hello there.\n\n"
    "00:02.600 --> 00:04.000\n你好。\n"
)


def read(root: Path, store: Path) -> dict[str, Any]:
    source = Source(format="videos", path=".", modality="video", task="footage", licence="MIT")
    found = [
        item for unit in videos.units(root, {}) for item in videos.read(root, unit, "c", source, MediaStore(store))
    ]
    return {item.origin if isinstance(item, Sample) else item.locator: item for item in found}


def test_words_beside_a_video_are_its_words(corpora: Any, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "more").mkdir(parents=True)
    data = (corpora / "video/vtest.avi").read_bytes()[:5000]
    for name in ("a.avi", "more/b.avi", "c.avi", "bare.avi", "bad.avi"):
        (root / name).write_bytes(data)
    (root / "a.txt").write_text("A street.\n", encoding="utf-8")
    (root / "a.srt").write_text(SRT, encoding="utf-8")
    (root / "more/b.vtt").write_text(VTT, encoding="utf-8")
    (root / "c.txt").write_text("  \n", encoding="utf-8")
    (root / "bad.srt").write_bytes(b"\xff\xfe\xfa")
    (root / "empty.mp4").touch()
    (root / "out.mp4").symlink_to("/etc/hostname")
    found = read(root, tmp_path / "store")
    assert found["a.avi"].text == "\nA street.\nHello there.\n你好。"
    assert found["more/b.avi"].text == "\nHello there.\n你好。"
    assert found["bare.avi"].text == "" and found["bare.avi"].media[0].kind == "video"
    faults = {name: (item.field, item.reason) for name, item in found.items() if not isinstance(item, Sample)}
    assert faults["c.avi"] == ("txt", "empty") and faults["empty.mp4"] == ("video", "empty file")
    assert faults["bad.avi"][0] == "srt" and "not UTF-8" in faults["bad.avi"][1]
    assert "leaves the corpus folder" in faults["out.mp4"][1]
