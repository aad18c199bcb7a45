"""What no reader may crash on or pass over in silence: each fault ends as a row of the quarantine table."""

import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_engine import catalog, ingest
from data_engine import tables as data_tables
from data_engine.cli import app
from data_engine.curate import curate
from data_engine.media import MAX_PIXELS, MediaError
from data_engine.operators.caption import Resolution
from data_engine.probe import probe_image
from data_engine.recipe import Corpus, Source, load_recipe
from data_engine.sources import (
    captions,
    coco,
    conversations,
    html,
    images,
    pdf,
    pdf_pages,
    tables,
    text,
    urls,
    video_truth,
    webdataset,
)
from strict_yaml import RecipeError
from tests.data_engine.sources.helpers import huge_png, png, read_all

FILES: list[tuple[ModuleType, str]] = [
    (captions, "a.png"),
    (coco, "a.json"),
    (conversations, "a.jsonl"),
    (conversations, "a.json"),
    (conversations, "a.parquet"),
    (conversations, "a.jsonl.gz"),
    (conversations, "a.json.gz"),
    (html, "a.html"),
    (images, "a.png"),
    (pdf, "a.pdf"),
    (pdf_pages, "a.pdf"),
    (tables, "a.tsv"),
    (tables, "a.tsv.gz"),
    (text, "a.txt"),
    (text, "a.txt.gz"),
    (video_truth, "a.mp4"),
    (urls, "a.parquet"),
    (urls, "a.csv"),
    (webdataset, "a.tar"),
    (webdataset, "a.tar.gz"),
]
PARSED = [item for item in FILES if item[0] not in {captions, images, video_truth}]
READERS = sorted({reader for reader, _ in FILES}, key=lambda reader: reader.__name__)
every_file = pytest.mark.parametrize(("reader", "name"), FILES, ids=lambda value: getattr(value, "__name__", value))


def header(name: str, size: int) -> bytes:
    """What stands before a member of a tar."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf()


@pytest.mark.parametrize(
    ("reader", "name"), [item for item in FILES if item[0] not in {captions, images, video_truth}], ids=str
)
@pytest.mark.parametrize(
    "data", [b"", b"\0" * 3000, b"\xff\xfe\0\xd8" * 999, bytes(range(256)) * 20, b"\x1f\x8b\x08\0"]
)
def test_a_file_of_other_bytes_is_quarantined_with_its_place(reader, name, data, root, store):
    """What an image's bytes are is the probe's business: see below."""
    (root / name).write_bytes(data)
    good, bad = read_all(reader, root, store)
    assert good == [] and bad
    assert all(record.reason and record.locator.startswith("a.") for record in bad)


@every_file
def test_links_that_lead_out_nowhere_or_in_circles_are_quarantined(reader, name, root, store):
    beside = root.parent / f"secret-{name}"
    beside.write_bytes(png() + b"secret")
    ending = name.removeprefix("a")
    (root / f"a{ending}").symlink_to(beside)
    (root / f"b{ending}").symlink_to(root / "nothing")
    (root / f"c{ending}").symlink_to(root / f"d{ending}")
    (root / f"d{ending}").symlink_to(root / f"c{ending}")
    if reader is captions:
        for key in "abcd":
            (root / f"{key}.txt").write_text("A caption.")
    units = [video_truth.VIDEOS] if reader is video_truth else None
    good, bad = read_all(reader, root, store, units=units)
    assert good == []
    assert {record.locator[0] for record in bad} == set("abcd")
    assert any("leaves the corpus folder" in record.reason for record in bad if record.locator[0] == "a")
    assert not store.root.exists() or not list(store.root.rglob("*.*"))


@pytest.mark.parametrize(
    ("reader", "name", "start"),
    [
        (conversations, "a.jsonl.gz", b""),
        (conversations, "a.json.gz", b"["),
        (html, "a.html.gz", b"<p>"),
        (tables, "a.tsv.gz", b"question\tanswer\n"),
        (text, "a.txt.gz", b""),
        (urls, "a.csv.gz", b"url,caption\n"),
        (webdataset, "a.tar.gz", header("0.txt", 32 << 20)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_gzip_bomb_never_fills_the_memory(reader, name, start, root, store, monkeypatch):
    monkeypatch.setattr("data_engine.sources.common.BOMB_BYTES", 3_000_000)
    with gzip.open(root / name, "wb", compresslevel=9) as stream:
        stream.write(start)
        for _ in range(32):
            stream.write(b" " * (1 << 20))
    good, bad = read_all(reader, root, store)
    assert good == [] and any("bomb" in record.reason for record in bad)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_an_empty_corpus_is_a_wrong_recipe_in_one_line(reader, root):
    with pytest.raises(RecipeError, match="holds no file") as told:
        reader.units(root, {})
    assert "\n" not in str(told.value)


def test_nul_bytes_in_captions_and_texts(root, store):
    (root / "a.png").write_bytes(png())
    (root / "a.txt").write_bytes(b"A \0 cat.\nzh_CN.utf8=\xe7\x8c\xab")
    good, bad = read_all(captions, root, store, {"languages": ["en", "zh_CN"]})
    assert [sample.messages[1].text for sample in good] == ["猫"]
    assert [(record.locator, record.field) for record in bad] == [("a.png#en", "caption")]
    good, bad = read_all(text, root, store)
    assert good == [] and bad[0].reason == "NUL byte at character 2"


def test_a_whole_ingest_of_bad_input_counts_every_record(root, tmp_path):
    """Nothing is lost: what went in is in `samples` or in `quarantine`, with where it came from."""
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]
    rows: list[object] = [{"conversations": turns}] * 3 + [7, {"conversations": turns[::-1]}, {"image": "rows.jsonl"}]
    (root / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with tarfile.open(root / "a.tar", "w") as tar:
        for name, data in {"0.png": png(), "0.txt": b"A square.", "1.png": png(), "../2.png": png()}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    formats = ("conversations", "webdataset")
    sources = [Source(format=f, path=".", modality="image", task="t", licence="MIT") for f in formats]
    corpus = Corpus(corpus="c", sources=sources)
    units = ingest.list_units(corpus, root)
    found = ingest.ingest_partition(units, corpus=corpus, root=root, store=tmp_path / "store")
    assert len(found["samples"]) == 4
    assert {(row["corpus"], row["locator"], row["field"]) for row in found["quarantine"].to_pylist()} == {
        ("c", "rows.jsonl:4", "json"),
        ("c", "rows.jsonl:5", "conversations[0]"),
        ("c", "rows.jsonl:6", "image"),
        ("c", "a.tar#1", "caption"),
        ("c", "a.tar#../2.png", "member"),
    }


def corpus_of(reader: ModuleType) -> Corpus:
    name = reader.__name__.rpartition(".")[2]
    return Corpus(corpus="c", sources=[Source(format=name, path=".", modality="image", task="t", licence="MIT")])


@pytest.mark.parametrize(("reader", "name"), [item for item in FILES if item[0] is not video_truth], ids=str)
def test_a_name_that_is_not_utf8_costs_its_file_and_no_other(reader, name, root, tmp_path):
    beside = os.fsencode(root) + b"/\xff\xfe" + name.removeprefix("a").encode()
    with open(beside, "wb") as file:  # noqa: PTH123 - a Path holds no bytes
        file.write(b"x")
    (root / name).write_bytes(b"y")
    corpus = corpus_of(reader)
    ingest.fingerprint(corpus, root)
    found = ingest.ingest_partition(ingest.list_units(corpus, root), corpus=corpus, root=root, store=tmp_path / "store")
    told = [row for row in found["quarantine"].to_pylist() if row["locator"].startswith(r"\xff\xfe.")]
    assert [(row["field"], row["reason"]) for row in told] == [("file", "its name is not UTF-8; rename it")]
    assert len(found["quarantine"]) + len(found["samples"]) > 1  # the other is met too


@pytest.mark.parametrize(
    ("path", "reason"), [("absent", "no such file or folder"), ("../../etc", "leaves the corpus folder")]
)
def test_a_path_that_is_not_there_or_climbs_out_is_a_wrong_recipe_in_one_line(path, reason, root, tmp_path):
    source = {"format": "text", "path": path, "modality": "text", "task": "t", "licence": "MIT"}
    (tmp_path / "r.yaml").write_text(json.dumps({"root": str(root), "corpus": "c", "sources": [source]}))
    told = CliRunner().invoke(app, ["curate", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "run")])
    assert told.exit_code == 2 and told.stderr.count("\n") == 1
    assert told.stderr.startswith(f"{tmp_path / 'r.yaml'}: corpora.c.sources.0.path: ") and reason in told.stderr


def test_a_reader_that_breaks_says_that_the_rest_was_not_read(root, tmp_path, monkeypatch):
    (root / "a.txt").write_text("words")
    monkeypatch.setattr(text, "split_documents", lambda words, size: 1 / 0)
    corpus = corpus_of(text)
    found = ingest.ingest_partition(ingest.list_units(corpus, root), corpus=corpus, root=root, store=tmp_path / "store")
    ((reason),) = found["quarantine"]["reason"].to_pylist()
    assert reason == "ZeroDivisionError: division by zero; what else the unit holds was not read"


def test_a_caption_behind_a_link_that_leads_out_is_not_read(root, store):
    (root.parent / "secret.txt").write_text("A secret.")
    for name in "ab":
        (root / f"{name}.png").write_bytes(png())
    (root / "a.txt").symlink_to(root.parent / "secret.txt")
    (root / "b.txt").write_text("A square.")
    good, bad = read_all(captions, root, store)
    assert [sample.messages[1].text for sample in good] == ["A square."]
    assert [(record.locator, "leaves the corpus folder" in record.reason) for record in bad] == [("a.png", True)]


def test_pictures_behind_links_that_lead_out_are_not_read(root, store):
    (root.parent / "secret.png").write_bytes(png(40, 40))
    (root / "a.png").symlink_to(root.parent / "secret.png")
    (root / "page.html").write_text("<p>Words.</p><img src='a.png'><img src='/a.png'>")
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]
    (root / "a.jsonl").write_text(json.dumps({"image": "a.png", "conversations": turns}))
    (root / "a.tsv").write_text("question\tanswer\timage_path\nWhat?\tThat.\ta.png\n")
    boxes = {"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}]}
    boxes |= {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "cat"}]}
    (root / "a.json").write_text(json.dumps(boxes))
    for reader, name in ((html, ""), (conversations, "a.jsonl"), (tables, ""), (coco, "")):
        good, bad = read_all(reader, root / name, store)
        assert bad and all("leaves the corpus folder" in record.reason for record in bad), reader
        assert not any(sample.media for sample in good)
    assert not store.root.exists()


def test_a_strip_stops_no_run_and_pictures_at_the_limit_reach_the_end_of_a_run(root, tmp_path):
    """One picture that no model can be shown is set aside and counted; one at the limit is shrunk and written."""
    for name, size in {"fine": (60, 40), "strip": (900, 3), "narrow": (8000, 41)}.items():
        (root / f"{name}.png").write_bytes(encoded(size, "PNG"))
        (root / f"{name}.txt").write_text(f"A picture that is {name}.")
    source = {"format": "captions", "path": ".", "modality": "image", "task": "t", "licence": "MIT"}
    recipe = {"root": str(root), "corpus": "c", "sources": [source], "holdout": {"share": 0}}
    recipe |= {"mixture": {"shares": {"image": 1.0}}}
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    outcome = curate(load_recipe(tmp_path / "r.yaml"), tmp_path / "run", runner="local")
    counts = {name: count for name, count in outcome.summary["corpora"]["c"].items() if count}
    assert counts == {"ingested": 3, "kept": 2, "quarantined": 1}
    (verdict,) = [row for row in all_rows(tmp_path / "run", "c") if row["status"] == "quarantined"]
    assert verdict["origin"] == "strip.png#en"
    assert verdict["reason"] == "900 x 3 pixels: one side is more than 200 times the other"


def test_readings_are_wanted_of_pictures_only(root, tmp_path):
    turns = [{"from": "human", "value": "One and one?"}, {"from": "gpt", "value": "Two."}]
    (root / "a.jsonl").write_text(json.dumps({"conversations": turns}))
    source = {"format": "conversations", "path": ".", "modality": "image", "task": "t", "licence": "MIT"}
    recipe = {"root": str(root), "corpus": "c", "sources": [source], "target": "samples"}
    (tmp_path / "r.yaml").write_text(json.dumps({**recipe, "operators": [{"ocr_agreement": {}}]}))
    outcome = curate(load_recipe(tmp_path / "r.yaml"), tmp_path / "run", runner="local")
    assert outcome.summary["corpora"]["c"]["kept"] == 1


def all_rows(run: Path, corpus: str) -> list[dict[str, Any]]:
    return data_tables.rows(catalog.steps(run)[f"dedup.{corpus}"] / "verdicts")


def encoded(size: tuple[int, int], kind: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_the_probe_tells_of_images_that_are_cut_short(kind):
    whole = encoded((64, 64), kind)
    assert probe_image(whole)["format"] == kind.lower()
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(MediaError):
            probe_image(whole[: int(len(whole) * share)])


def bomb(kind: str) -> bytes:
    """A few hundred kilobytes that decode to more pixels than are allowed."""
    side = int(MAX_PIXELS**0.5) + 100
    buffer = io.BytesIO()
    Image.new("1", (side, side)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<html>404 Not Found</html>", "not an image"),
        (b"%PDF-1.4 ...", "not an image"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "not an image"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 50, "image"),
        (huge_png(), "too many pixels"),
        (bomb("PNG"), "pixels"),
        (bomb("GIF"), "pixels"),
        (bomb("TIFF"), "pixels"),
    ],
)
def test_the_probe_tells_of_bombs_and_other_files_called_images(data, reason):
    with pytest.raises(MediaError, match=reason):
        probe_image(data)


@pytest.mark.parametrize(("size", "reason"), [((1, 1), "image too small"), ((8000, 40), "image too narrow")])
def test_a_dot_and_a_strip_are_measured_and_dropped_with_a_reason(size, reason):
    found = probe_image(encoded(size, "PNG"))
    assert (found["width"], found["height"]) == size
    assert all(np.isfinite(value) for value in found.values() if isinstance(value, float))
    columns = {"short_side": [min(size)], "aspect": [max(size) / min(size)]}
    verdict = Resolution().decide(pa.record_batch(columns))
    assert reason in str(verdict)
