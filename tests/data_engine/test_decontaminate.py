"""Leaks of a real benchmark, planted and edited, are found; what only resembles it is left alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_engine import sample as samples
from data_engine.dedup import matching, planted
from data_engine.dedup.decontaminate import Decontaminate, compile_items, leaks, read_items, views
from data_engine.image_measures import phash
from data_engine.media import decode_image
from data_engine.sample import Sample, assistant, user

# One word in twelve changed breaks up to five of twelve 5-grams: short questions fall below the share asked for.
RECALL_OF_EDITS = 0.4


def config(path: str, form: str, **changes: Any) -> Decontaminate:
    source = {"format": form, "path": path, "modality": "text", "task": "t", "licence": "MIT"}
    return Decontaminate.model_validate({"benchmarks": [source], **changes})


@pytest.fixture(scope="module")
def questions(corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half of the competition problems as a benchmark, in English, and as many Chinese paragraphs."""
    root = tmp_path_factory.mktemp("benchmark")
    rows = [json.loads(line) for line in (corpora / "champ/champ.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = [row["conversations"][0]["value"] for row in rows][::2]
    text = next((corpora / "text/zh").glob("*.txt")).read_text(encoding="utf-8")
    paragraphs = [p.replace("\n", "").replace(" ", "") for p in text.split("\n\n")]
    asked += [p for p in paragraphs if 40 < len(p) < 300][:100]
    lines = [{"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": "?"}]} for q in asked]
    (root / "b").mkdir()
    (root / "b/items.jsonl").write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return root


def table(texts: list[str]) -> pa.Table:
    return samples.to_table([Sample("c", "text", "t", (user(text), assistant("so it is"))) for text in texts])


def no_pictures(rows: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([[]] * rows, pa.list_(pa.uint64()))])


def test_edited_words_are_found(questions: Path, tmp_path: Path) -> None:
    about = config("b", "conversations")
    items = list(read_items(about, questions, tmp_path))
    known = compile_items(items, about)
    found = planted.recall(items, lambda messages, hashes: leaks(messages, hashes, known, about), about.min_words)
    assert found["words: as they are"]["planted"] > 150 and found["words: as they are"]["recall"] == 1.0
    assert found["words: light edit"]["recall"] >= RECALL_OF_EDITS


def test_other_problems_of_the_same_book_are_not_leaks(questions: Path, corpora: Any, tmp_path: Path) -> None:
    about = config("b", "conversations")
    known = compile_items(list(read_items(about, questions, tmp_path)), about)
    rows = [json.loads(line) for line in (corpora / "champ/champ.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = [row["conversations"][0]["value"] for row in rows]
    found = leaks(table(asked)["messages"], no_pictures(len(asked)), known, about)
    assert set(range(0, len(asked), 2)) <= set(found) | _short(asked)
    assert len([row for row in found if row % 2]) <= 12  # variants of one problem stand side by side


def _short(texts: list[str]) -> set[int]:
    return {row for row, text in enumerate(texts) if len(text.split()) < 12}


def test_the_share_of_ngrams_by_brute_force() -> None:
    known = matching.index(["a b c d e f", "x y z", "too short"], 3, min_words=3)
    best, share = matching.best_match(pa.array(["q a b c d q", "x y z", "too short", "", "a b c x y z"]), known)
    assert best.tolist() == [0, 1, -1, -1, 1] and share.tolist() == [0.5, 1.0, 0.0, 0.0, 1.0]


@pytest.fixture(scope="module")
def pictures(corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty real pictures with captions as a benchmark."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "b").mkdir()
    with (root / "b/items.jsonl").open("w", encoding="utf-8") as lines:
        for number, path in enumerate(sorted((corpora / "stamps").rglob("*.png"))[::19][:40]):
            caption = path.with_suffix(".txt").read_text(encoding="utf-8").split("\n")[0]
            (root / f"b/{number}.png").write_bytes(path.read_bytes())
            turns = [{"from": "human", "value": "<image>\nWhat is shown?"}, {"from": "gpt", "value": caption}]
            lines.write(json.dumps({"image": f"{number}.png", "conversations": turns}) + "\n")
    return root


def test_cropped_resized_and_reencoded_pictures_are_found(pictures: Path, tmp_path: Path) -> None:
    about = config("b", "conversations")
    items = list(read_items(about, pictures, tmp_path))
    known = compile_items(items, about)
    found = planted.recall(items, lambda messages, hashes: leaks(messages, hashes, known, about), about.min_words)
    assert {name: about["planted"] for name, about in found.items()} == {
        f"picture: {k}": 40 for k in planted.PICTURE_EDITS
    }
    assert found["picture: resize"]["recall"] >= 0.95 and found["picture: re-encode"]["recall"] >= 0.95
    assert found["picture: crop"]["recall"] >= 0.7


def test_a_picture_alone_is_enough_only_where_the_recipe_says_so(pictures: Path, tmp_path: Path) -> None:
    strict, loose = config("b", "conversations"), config("b", "conversations", pictures="any")
    items = list(read_items(strict, pictures, tmp_path))
    shown = phash(items[3].pictures[0])
    messages = table(["quite another question about it"])["messages"]
    hashes = pa.chunked_array([pa.array([[shown]], pa.list_(pa.uint64()))])
    assert leaks(messages, hashes, compile_items(items, strict), strict) == {}
    assert "shows the picture of b:items.jsonl" in leaks(messages, hashes, compile_items(items, loose), loose)[0]


def test_the_first_view_is_the_whole_picture(pictures: Path) -> None:
    pixels = decode_image((pictures / "b/0.png").read_bytes())
    assert views(pixels)[0] == phash(pixels) and len(views(pixels)) == 19
    assert len(set(views(np.zeros((64, 64, 3), np.uint8)))) == 1
