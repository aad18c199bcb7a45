"""Readers on the real corpora and on planted faults: every fault is set aside where it is, by its field."""

import difflib
import gzip
import importlib
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_engine import ingest
from data_engine.media import MediaStore, decode_image
from data_engine.sources import captions, images, pdf, text
from data_engine.sources.common import inside
from strict_yaml import RecipeError
from tests.data_engine.sources.helpers import read_all


@pytest.fixture
def store(tmp_path: Path) -> MediaStore:
    return MediaStore(tmp_path / "store")


# Captions


def test_every_stamp_caption_is_read_in_both_languages(corpora, store):
    """The oracle is grep: first lines, and lines that begin with the Chinese code."""
    root = corpora / "stamps" / "animals"
    good, bad = read_all(captions, root, store, {"languages": ["en", "zh_CN"]})
    pictures = {path.relative_to(root).as_posix(): path for path in root.rglob("*.png")}
    english, chinese, alone = {}, {}, set()
    for name, path in pictures.items():
        if not path.with_suffix(".txt").exists():
            alone.add(name)
            continue
        lines = path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
        english[name] = lines[0].strip()
        marked = [line[11:].strip() for line in lines if line.startswith("zh_CN.utf8=")]
        if any(marked):
            chinese[name] = marked[-1]
    answers = {sample.origin: sample.messages[1].text for sample in good}
    assert answers == {f"{n}#en": t for n, t in english.items()} | {f"{n}#zh_CN": t for n, t in chinese.items()}
    assert {record.locator for record in bad} == alone
    assert len(chinese) > 100


def test_a_caption_sample_is_whole(corpora, store):
    root = corpora / "stamps"
    (sample,), _ = read_all(captions, root, store, units=["animals/amphibians/frog.png"])
    assert sample.messages[1].text == "A frog."
    assert [part.kind for part in sample.messages[0].parts] == ["image", "text"]
    assert store.read(sample.media[0].key) == (root / "animals/amphibians/frog.png").read_bytes()
    assert (sample.corpus, sample.licence, sample.attribution) == ("corpus", "MIT", "us")
    assert sample.group == sample.media[0].key


def test_prompts_vary_and_do_not_change_between_runs(corpora, store):
    options = {"languages": ["en", "zh_CN"]}
    first, _ = read_all(captions, corpora / "stamps" / "food", store, options)
    second, _ = read_all(captions, corpora / "stamps" / "food", store, options)
    assert [sample.id for sample in first] == [sample.id for sample in second]
    prompts = {sample.messages[0].text for sample in first}
    assert prompts == {*captions.PROMPTS["en"], *captions.PROMPTS["zh"]}


def test_caption_faults_are_named(tmp_path, store):
    root = tmp_path / "corpus"
    root.mkdir()
    for name in ("empty", "alone", "latin", "mute"):
        Image.new("RGB", (8, 8)).save(root / f"{name}.png")
    (root / "empty.png").write_bytes(b"")
    (root / "empty.txt").write_text("Nothing.")
    (root / "latin.txt").write_bytes("Un caf\xe9.".encode("latin-1"))
    (root / "mute.txt").write_text("\nde.utf8=Stumm.\n")
    good, bad = read_all(captions, root, store)
    assert good == []
    assert {record.locator: record.field for record in bad} == {
        "alone.png": "caption",
        "empty.png": "image",
        "latin.png": "caption",
        "mute.png": "caption",
    }
    assert "alone.txt" in bad[0].reason and bad[1].reason == "empty file" and "UTF-8" in bad[2].reason


DRAWN = {"rendered_text", "rendered_documents", "character_matrix"}  # they look for folders of fonts and texts
REQUIRED = {"queue": {"media": "media"}, "release": {"media": "media"}}  # options a format cannot do without


@pytest.mark.parametrize("name", ingest.FORMATS)
def test_a_wrong_option_names_the_right_one(name, tmp_path):
    reader = importlib.import_module(f"data_engine.sources.{name}")
    with pytest.raises(RecipeError, match=reader.__name__.rpartition(".")[2]):
        reader.units(tmp_path, {"colour": 1})
    with pytest.raises(RecipeError, match="did you mean 'languages'"):
        captions.units(tmp_path, {"language": ["en"]})
    with pytest.raises(RecipeError, match="no such file or folder"):
        reader.units(tmp_path / "absent", REQUIRED.get(name, {}))
    with pytest.raises(RecipeError, match="no such file or folder" if name in DRAWN else "holds no file"):
        reader.units(tmp_path, REQUIRED.get(name, {}))


# Paths


def test_inside_refuses_what_climbs_out(tmp_path):
    assert inside(tmp_path, "a/../b") == (tmp_path / "b").resolve()
    for path in ("../b", "/b", "a/../../b"):
        with pytest.raises(ValueError, match="leaves the corpus folder"):
            inside(tmp_path, path)


# PDF pages


def plain_page(path: Path, number: int) -> str:
    command = ["pdftotext", "-layout", "-f", str(number), "-l", str(number), str(path), "-"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def squeezed(words: str) -> str:
    return re.sub(r"\s", "", words)


@pytest.mark.parametrize("name", ["debian-reference.en.pdf", "debian-reference.zh-cn.pdf"])
def test_pdf_truth_is_on_its_page(corpora, store, name):
    root = corpora / "manuals" / name
    good, bad = read_all(pdf, root, store, units=[f"{name}#page=60"])
    page = squeezed(plain_page(root, 60))
    assert bad == [] and len(good) >= 8
    for sample in good:
        assert all(squeezed(line) in page for line in sample.messages[1].text.splitlines())
        assert sample.messages[1].text.count("\n") <= 2 and sample.group == f"{name}#page=60"


def test_an_ocr_model_reads_the_same_words_from_the_pictures(corpora, store):
    """The oracle is another reader of the pictures, on the lines of a length it is good at."""
    from rapidocr import RapidOCR

    engine, scores = RapidOCR(params={"Global.log_level": "error"}), []
    for name in ("debian-reference.en.pdf", "debian-reference.zh-cn.pdf"):
        good, _ = read_all(pdf, corpora / "manuals" / name, store, units=[f"{name}#page=60"])
        answers = [(sample, sample.messages[1].text) for sample in good]
        for sample, words in [(s, w) for s, w in answers if 10 <= len(w) <= 60 and "\n" not in w][:6]:
            seen = engine(decode_image(store.read(sample.media[0].key)), use_det=False, use_cls=False)
            pair = squeezed("".join(seen.txts or ())), squeezed(words)
            scores.append(difflib.SequenceMatcher(None, *pair, autojunk=False).ratio())
    assert len(scores) > 6 and np.mean(scores) > 0.85, scores


def test_pdf_options_bound_pages_blocks_and_characters(corpora, store):
    root = corpora / "manuals" / "debian-reference.en.pdf"
    units = pdf.units(root, {"pages": 4})
    pages = [int(unit.rpartition("=")[2]) for unit in units]
    assert len(pages) == 4 and np.diff(pages).min() >= 60
    good, _ = read_all(pdf, root, store, {"max_blocks": 3, "max_chars": 40}, ["debian-reference.en.pdf#page=60"])
    assert len(good) == 3 and all(len(sample.messages[1].text) <= 40 for sample in good)


def test_lines_side_by_side_off_the_page_or_crowded_are_not_used():
    def line(left: float, top: float, right: float, bottom: float, words: str) -> pdf.Line:
        return pdf.Line(pdf.Box(left, top, right, bottom), words)

    fine = (line(10, 10, 90, 20, "first"), line(10, 22, 90, 32, "second"))
    beside = (line(10, 50, 40, 60, "left"), line(50, 50, 90, 60, "right"))
    outside = (line(10, 80, 110, 90, "cut off"),)
    crowded = (line(10, 100, 60, 110, "a"),), (line(55, 105, 90, 115, "b"),)
    page = pdf.Page(pdf.Box(0, 0, 100, 200), (fine, beside, outside, *crowded))
    assert pdf.usable_blocks(page, max_chars=100) == [fine]
    assert pdf.usable_blocks(page, max_chars=11) == []


def test_a_damaged_pdf_is_quarantined(corpora, tmp_path, store):
    root = tmp_path / "corpus"
    root.mkdir()
    data = (corpora / "manuals" / "debian-reference.en.pdf").read_bytes()
    (root / "half.pdf").write_bytes(data[: len(data) // 2])
    (root / "empty.pdf").touch()
    (root / "other.pdf").write_text("not a PDF")
    good, bad = read_all(pdf, root, store)
    assert good == []
    assert {record.locator for record in bad} >= {"empty.pdf#page=1", "other.pdf#page=1"}
    assert all(record.field == "pdf" and record.reason for record in bad)


# Text


@given(st.text(alphabet="ab1.\n #", max_size=400), st.integers(1, 60))
def test_no_character_of_a_text_is_lost(words, max_chars):
    documents = list(text.split_documents(words, max_chars))
    assert all(0 < len(document) <= max_chars for document in documents)
    assert squeezed("".join(documents)) == squeezed(words)


def test_the_manual_is_cut_at_blank_lines(corpora, store):
    root = corpora / "text"
    good, bad = read_all(text, root, store, {"max_chars": 2000})
    assert bad == []
    assert all(sample.messages[0].role == "document" for sample in good)
    for folder in ("en", "zh"):
        (file,) = (root / folder).iterdir()
        words = file.read_text(encoding="utf-8")
        found = [sample.text for sample in good if sample.origin.startswith(folder)]
        assert squeezed("".join(found)) == squeezed(words)
        paragraphs = re.split(r"\n\s*\n", words)
        whole = {squeezed(paragraph) for paragraph in paragraphs}
        long = "\n".join(squeezed(paragraph) for paragraph in paragraphs if len(paragraph) > 1900)
        starts = [squeezed(document.split("\n\n")[0]) for document in found]
        assert all(start in whole or start in long for start in starts)
        assert np.median([len(document) for document in found]) > 1000


def test_text_faults_and_gzip(tmp_path, store):
    root = tmp_path / "corpus"
    root.mkdir()
    (root / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    (root / "blank.txt").write_text(" \n\n")
    (root / "fine.txt.gz").write_bytes(gzip.compress(b"One.\n\nTwo."))
    (root / "cut.txt.gz").write_bytes(gzip.compress(b"One.\n\nTwo." * 100)[:-12])
    good, bad = read_all(text, root, store)
    assert [sample.text for sample in good] == ["One.\n\nTwo."]
    assert {record.locator: record.reason.partition(":")[0] for record in bad} == {
        "blank.txt": "empty file",
        "cut.txt.gz": "cannot be read",
        "latin.txt": "not UTF-8 at byte 3",
    }


# Images still to be read


def test_photos_wait_for_their_answer(corpora, tmp_path, store):
    root = tmp_path / "corpus"
    shutil.copytree(corpora / "scene_text", root)
    (root / "empty.jpg").touch()
    good, bad = read_all(images, root, store)
    assert len(good) == len(list(root.iterdir())) - 1
    assert all([message.role for message in sample.messages] == ["user"] for sample in good)
    assert [(record.locator, record.reason) for record in bad] == [("empty.jpg", "empty file")]
