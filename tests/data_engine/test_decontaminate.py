"""Leaks of a real benchmark, planted and edited, are found; what only resembles it is left alone."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_engine import sample as samples
from data_engine import tables
from data_engine.curation import Curation
from data_engine.dedup import decontaminate, matching, planted
from data_engine.dedup.decontaminate import (
    Decontaminate,
    Item,
    catch,
    compile_items,
    find,
    leaks,
    measured,
    only,
    read_items,
    views,
)
from data_engine.image_measures import phash
from data_engine.media import MediaStore, decode_image, encode_jpeg
from data_engine.models import embedding
from data_engine.recipe import Recipe, Source
from data_engine.sample import Sample, assistant, user
from data_engine.sources.captions import parse_sidecar
from data_engine.step import Run
from strict_yaml import RecipeError
from tests.data_engine.embedding_models import two_towers
from tests.data_engine.test_semantic import rows_of, showing

# One word in twelve changed leaves 0.65 of the 5-grams of a long text, and of a short question at times less than the
# half that is asked for. A bound of 0.7 found 0.57 of such leaks in English and 0.12 in Chinese.
RECALL_OF_EDITS = 0.75


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
    found = measured(items, known, about)
    assert found["words: as they are"] == {"planted": 227, "recall": 1.0, "english": 1.0, "chinese": 1.0}
    assert min(found["words: light edit"][language] for language in ("english", "chinese")) >= RECALL_OF_EDITS
    assert found["unrelated"]["planted"] == 117 and found["unrelated"]["dropped"] <= 0.1


def test_other_problems_of_the_same_book_are_not_leaks(questions: Path, corpora: Any, tmp_path: Path) -> None:
    about = config("b", "conversations")
    known = compile_items(list(read_items(about, questions, tmp_path)), about)
    rows = [json.loads(line) for line in (corpora / "champ/champ.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = [row["conversations"][0]["value"] for row in rows]
    found = leaks(table(asked)["messages"], no_pictures(len(asked)), known, about)
    assert set(range(0, len(asked), 2)) <= set(found) | _short(asked)
    assert len([row for row in found if row % 2]) <= 16  # variants of one problem stand side by side


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
    found = measured(items, known, about)
    edits = [f"picture: {name}" for name in planted.PICTURE_EDITS] + ["picture: crop, words: light edit"]
    assert {name: found[name]["planted"] for name in edits} == dict.fromkeys(edits, 40)
    assert found["picture: resize"]["recall"] >= 0.95 and found["picture: re-encode"]["recall"] >= 0.95
    assert found["picture: crop"]["recall"] >= 0.7
    assert found["unrelated"] == {"planted": 20, "dropped": 0.0, "english": 0.0}
    assert not any("without_models" in name for name in found["picture: crop"])


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


def two_languages(corpora: Any, root: Path, every: int = 25) -> Path:
    """Pictures with captions in English and, by twos, Chinese, as a benchmark: every second item is of both."""
    (root / "b").mkdir()
    files = [file for file in sorted((corpora / "stamps").rglob("*.png")) if file.with_suffix(".txt").exists()]
    with (root / "b/items.jsonl").open("w", encoding="utf-8") as lines:
        for number, path in enumerate(files[::every]):
            said = parse_sidecar(path.with_suffix(".txt").read_text(encoding="utf-8"))
            chinese = number % 4 < 2 and said.get("zh_CN")
            question, answer = ("图中是什么？", said["zh_CN"]) if chinese else ("What is it?", said["en"])
            (root / f"b/{number}.png").write_bytes(path.read_bytes())
            turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
            lines.write(json.dumps({"image": f"{number}.png", "conversations": turns}) + "\n")
    return root


@pytest.fixture(scope="module")
def towers(corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    return two_towers(corpora, tmp_path_factory.mktemp("towers"))


def test_embeddings_add_to_what_hashes_find_and_never_take_away(corpora: Any, towers: str, tmp_path: Path) -> None:
    root = two_languages(corpora, tmp_path)
    about = config("b", "conversations", image_model=towers, text_model=towers, trusted=True)
    items = list(read_items(about, root, tmp_path / "media"))
    found = measured(items, compile_items(items, about), about)
    for name in (f"picture: {edit}" for edit in planted.PICTURE_EDITS):
        assert found[name]["recall"] >= found[name]["recall_without_models"]
        assert {"english", "chinese", "english_without_models", "chinese_without_models"} <= set(found[name])
    assert found["picture: resize"]["recall"] == 1.0
    assert found["unrelated"]["dropped"] >= found["unrelated"]["dropped_without_models"] == 0.0


def test_the_rule_by_embeddings_is_that_of_a_brute_force(corpora: Any, towers: str, tmp_path: Path) -> None:
    """No hash and no n-gram can match here: what is found is picture cosine and text cosine, both above the bounds."""
    root = two_languages(corpora, tmp_path)
    rule = config("b", "conversations", image_model=towers, text_model=towers, trusted=True)
    items = list(read_items(rule, root, tmp_path / "media"))
    random = np.random.default_rng(0)
    shown = [[planted._crop(item.pictures[0], random)] for item in items]
    texts = [f"{item.texts[-1]} indeed" for item in items]
    no_hashes = {"hashes": np.empty(0, np.uint64), "hash_item": np.empty(0, np.int64)}
    known = dataclasses.replace(compile_items(items, rule), **no_hashes)
    pictures = embedding.embed_images(towers, [row[0] for row in shown]) @ known.picture_vectors.T
    least = float(np.median(pictures.diagonal()))
    bounds = {"min_image_cosine": least, "min_text_cosine": 0.8, "max_share_beside_picture": 1.0}
    about = rule.model_copy(update=bounds)
    found = catch(table(texts)["messages"], shown, known=known, config=about)
    said = np.stack([embedding.embed_texts(towers, [text, "so it is"]) for text in texts])
    best = np.full((len(items), len(items)), -1.0)
    for place, item in enumerate(known.text_item):
        best[:, item] = np.maximum(best[:, item], (said @ known.text_vectors[place]).max(axis=1))
    assert set(found) == set(np.flatnonzero(((pictures > least) & (best > 0.8)).any(axis=1)).tolist())
    assert 3 < len(found) < len(items)


def test_a_part_of_a_benchmark_is_what_it_would_be_alone(pictures: Path, tmp_path: Path) -> None:
    about = config("b", "conversations")
    items = list(read_items(about, pictures, tmp_path))
    half = only(compile_items(items, about), np.arange(40) % 2 == 0, about)
    alone = compile_items(items[::2], about)
    assert half.texts == alone.texts and half.hashes.tolist() == alone.hashes.tolist()
    assert half.words.hashes.tolist() == alone.words.hashes.tolist()
    assert half.hash_item.tolist() == (2 * alone.hash_item).tolist()


def test_the_pass_embeds_the_pictures_of_the_store(corpora: Any, towers: str, tmp_path: Path) -> None:
    """A crop that its hash does not give away, beside the benchmark's words; another stamp beside other words."""
    root = two_languages(corpora, tmp_path)
    about = config("b", "conversations", image_model=towers, min_image_cosine=0.9, trusted=True, max_hamming=0)
    items = list(read_items(about, root, tmp_path / "media"))
    store = MediaStore(tmp_path / "run/media")
    crops = [planted._crop(item.pictures[0], np.random.default_rng(7)) for item in items[:6]]
    keys = [store.put_bytes(encode_jpeg(pixels), ".jpg") for pixels in crops]
    leaked = [showing([key], items[i].texts[-1]) for i, key in enumerate(keys)]
    rows = rows_of(tmp_path / "run", [*leaked, showing(keys[:1], "nothing of the kind was ever asked")], 3)
    a = Recipe.model_validate({"corpus": "c", "root": str(root), "sources": [about.benchmarks[0].model_dump()]})
    (tmp_path / "work").mkdir()
    found = find(rows, about, Curation(a, Run(tmp_path / "run"), "local"), tmp_path / "work")
    expected = catch(samples.to_table(leaked)["messages"], [[decode_image(store.read(key))] for key in keys],
                     known=compile_items(items, about), config=about)  # fmt: skip
    assert found.row.tolist() == sorted(expected) and len(expected) >= 4
    assert "picture: crop" in json.loads((tmp_path / "work/recall.json").read_text())


def test_a_short_question_is_a_leak_where_it_is_a_whole_turn() -> None:
    about = Decontaminate(benchmarks=[SOURCE])
    short = [Item("b:1", ("Find 2^32+1 mod 641.",), ()), Item("b:2", ("Yes.",), ()), Item("b:3", ("求素数的和",), ())]
    turns = ["find 2^32 + 1 MOD 641", "Find 2^32+1 mod 641. And say why.", "mod 641", "Yes.", "求素數的和！", "求和"]
    assert leaks(table(turns)["messages"], no_pictures(len(turns)), compile_items(short, about), about) == {
        0: "is b:1",
        4: "is b:3",
    }


def test_a_benchmark_that_cannot_be_read_is_refused_and_a_repaired_one_is_another(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    file = tmp_path / "b/rows.jsonl"
    file.write_text('{"conversations": 3}\n')
    about = Decontaminate(benchmarks=[SOURCE.model_copy(update={"path": "b"})])
    before = about.reads(tmp_path)
    with pytest.raises(RecipeError, match=r"none of 1 records of b could be read; the first: rows.jsonl:1"):
        decontaminate._readable(about, tmp_path, tmp_path)
    good = {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]}
    file.write_text(json.dumps(good) + '\n{"conversations": 3}\n')
    assert about.reads(tmp_path) != before
    assert [item.texts for item in decontaminate._readable(about, tmp_path, tmp_path)] == [("Why?", "So.")]
    assert tables.rows(tmp_path / "unread", ["locator"]) == [{"locator": "rows.jsonl:2"}]


SOURCE = Source(format="conversations", path=".", modality="text", task="math", licence="MIT")
