"""Near-duplicates by embeddings: the pairs are those of a brute force, and planted paraphrases and copies are found."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_engine import sample as samples
from data_engine import tables
from data_engine.dedup import neighbours, semantic
from data_engine.dedup.components import components
from data_engine.dedup.rows import Part as RowsPart
from data_engine.dedup.rows import Rows
from data_engine.media import MediaStore, decode_image
from data_engine.models import embedding
from data_engine.sample import Media, Part, Sample, assistant, document, user
from strict_yaml import RecipeError
from tests.data_engine.embedding_models import minilm, two_towers
from tests.data_engine.test_dedup import MEASURES, a_run

Ints = npt.NDArray[np.int64]


@pytest.fixture(scope="module")
def encoder() -> str:
    return minilm()


@pytest.fixture(scope="module")
def towers(corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    return two_towers(corpora, tmp_path_factory.mktemp("towers"))


def brute(vectors: npt.NDArray[np.float16], group: Ints, least: float) -> list[int]:
    wide = vectors.astype(np.float32)
    close = np.triu((wide @ wide.T >= least) & (group[:, None] == group[None]), 1)
    first, second = np.nonzero(close)
    return components(len(group), first, second).tolist()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), num_groups=st.sampled_from([1, 2, 7, 60]), rows=st.sampled_from([3, 16, 64, 200]))
def test_the_forest_joins_what_a_brute_force_joins(
    tmp_path_factory: pytest.TempPathFactory, seed: int, num_groups: int, rows: int
) -> None:
    folder = tmp_path_factory.mktemp("forest")
    random = np.random.default_rng(seed)
    centres = random.normal(size=(25, 8))[random.integers(0, 25, 120)]
    wide = centres + random.normal(size=(120, 8)) * 0.25
    vectors = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float16)
    group = np.sort(random.integers(0, num_groups, 120))
    np.save(folder / "v.npy", vectors)
    np.save(folder / "g.npy", group)
    found = [neighbours.panel_forest(folder / "v.npy", folder / "g.npy", at, rows, 0.95) for at in range(0, 120, rows)]
    later, first = (np.concatenate(edges) for edges in zip(*found, strict=True))
    assert components(120, later, first).tolist() == brute(vectors, group, 0.95)


def test_the_memory_is_stated_beforehand() -> None:
    rows = neighbours.block_rows(1_000_000, 384, 256)
    assert 64 <= rows < 4096
    assert 21 * rows**2 + 12 * 384 * rows + 16 * 1_000_000 <= 256 << 20
    with pytest.raises(ValueError, match=r"memory_mb: \d+; raise it") as error:
        neighbours.block_rows(10_000_000, 384, 64)
    enough = int(str(error.value).split("memory_mb: ")[1].split(";")[0])
    assert neighbours.block_rows(10_000_000, 384, enough) >= 64


def test_a_text_encoders_mean_pooling_is_that_of_transformers(encoder: str) -> None:
    from transformers import AutoModel, AutoTokenizer

    texts = ["The cat sleeps on the mat.", "", "A rather longer sentence about the stock market. " * 3, "cat"]
    found = embedding.embed_texts(encoder, [*texts, texts[0]])
    model, tokenizer = AutoModel.from_pretrained(encoder).eval(), AutoTokenizer.from_pretrained(encoder)
    for text, vector in zip(texts, found, strict=False):
        hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].detach().numpy().mean(axis=0)
        np.testing.assert_allclose(vector, hidden / np.linalg.norm(hidden), atol=1e-5)
    np.testing.assert_array_equal(found[0], found[4])


def test_what_cannot_embed_is_refused(encoder: str, towers: str) -> None:
    with pytest.raises(ValueError, match="trusted: true"):
        semantic.Semantic(model=encoder)
    with pytest.raises(ValueError, match="no vision tower"):
        semantic.Semantic(model=encoder, of="image", trusted=True)
    assert semantic.Semantic(model=towers, of="image", trusted=True).of == "image"


def rows_of(out: Path, found: Sequence[Sample], size: int, hashes: bool = True, earlier: bool = False) -> Rows:
    """Rows in parts of `size`, as the steps before leave them in a run's folder."""
    measured = [
        {
            "id": one.id,
            "media_keys": [item.key for item in one.media],
            "media_phash": [7 if hashes else None for _ in one.media],
        }
        for one in found
    ]
    step = out / "steps/dedup.c-0"
    pairs = zip(
        tables.write_partitions(samples.to_table(list(found)), step / "samples", size),
        tables.write_partitions(pa.Table.from_pylist(measured, MEASURES), step / "measures", size),
        strict=True,
    )
    return Rows([RowsPart(first, second, earlier) for first, second in pairs])


def kept_by(rows: Rows, config: semantic.Semantic, out: Path, runner: Any = "local") -> dict[int, int]:
    work = out / "work"
    work.mkdir(parents=True)
    found = semantic.find(rows, config, a_run(out, runner), work)
    return dict(zip(found.row.tolist(), found.keeper.tolist(), strict=True))


def words(text: str) -> Sample:
    return Sample("c", "text", "text", (document(text),))


PARAPHRASES = [
    ("A man is playing a guitar on the stage.", "On the stage a man is playing the guitar."),
    ("The recipe needs two eggs and a cup of flour.", "You need two eggs and one cup of flour for the recipe."),
    ("The train to Oxford was delayed by heavy snow.", "Heavy snow delayed the train to Oxford."),
]


def test_paraphrases_are_found_and_other_sentences_stay(encoder: str, corpora: Any, tmp_path: Path) -> None:
    lines = (corpora / "champ/champ.jsonl").read_text(encoding="utf-8").splitlines()[::9]
    others = [json.loads(line)["conversations"][0]["value"] for line in lines]
    texts = [one for one, _ in PARAPHRASES] + others + [two for _, two in PARAPHRASES] + [""]
    rows = rows_of(tmp_path, [words(text) for text in texts], 10)
    found = kept_by(rows, semantic.Semantic(model=encoder, min_cosine=0.85, trusted=True), tmp_path)
    vectors = embedding.embed_texts(encoder, texts[:-1]).astype(np.float16)
    expected = brute(vectors, np.zeros(len(vectors), np.int64), 0.85)
    assert found == {row: first for row, first in enumerate(expected) if row != first}
    assert {row: first for row, first in found.items() if first < 3} == {len(texts) - 4 + i: i for i in range(3)}


def test_chinese_texts_are_compared_by_the_two_towers(towers: str, corpora: Any, tmp_path: Path) -> None:
    """The tower knows Chinese captions only as their letters: a copy with other white space is a copy, no more."""
    text = next((corpora / "text/zh").glob("*.txt")).read_text(encoding="utf-8")
    paragraphs = [one.replace("\n", "").strip() for one in text.split("\n\n")]
    chosen = [one for one in paragraphs if 20 < len(one) < 60][:20]
    rows = rows_of(tmp_path, [words(one) for one in [*chosen, chosen[3] + " ", chosen[9]]], 7)
    found = kept_by(rows, semantic.Semantic(model=towers, min_cosine=0.999, trusted=True), tmp_path)
    assert found[20] == 3 and found[21] == 9


def test_one_text_beside_two_pictures_is_no_duplicate(encoder: str, tmp_path: Path) -> None:
    def asked(key: str, question: str) -> Sample:
        turns = (user(Part("image", media=(0,)), question), assistant("It is red."))
        return Sample("c", "image", "vqa", turns, (Media("image", key),))

    pairs = [("a", "What colour is it?"), ("b", "What colour is it?"), ("a", "Which colour is it?")]
    rows = rows_of(tmp_path, [asked(*pair) for pair in pairs], 2)
    assert kept_by(rows, semantic.Semantic(model=encoder, min_cosine=0.9, trusted=True), tmp_path) == {2: 0}


def picture(store: MediaStore, pixels: npt.NDArray[np.uint8], quality: int | None = None) -> str:
    data = io.BytesIO()
    if quality is None:
        Image.fromarray(pixels).save(data, "PNG")
    else:
        Image.fromarray(pixels).save(data, "JPEG", quality=quality)
    return store.put_bytes(data.getvalue(), ".png" if quality is None else ".jpg")


def showing(keys: Sequence[str], words: str) -> Sample:
    """A sample of these pictures and words."""
    parts = [Part("image", media=(number,)) for number in range(len(keys))]
    return Sample("c", "image", "x", (user(*parts, words),), tuple(Media("image", key) for key in keys))


def test_copies_of_pictures_are_found_also_in_an_earlier_release(towers: str, corpora: Any, tmp_path: Path) -> None:
    files = sorted((corpora / "stamps/animals").rglob("*.png"))[::15][:12]
    stamps = [decode_image(file.read_bytes()) for file in files]
    old, new = MediaStore(tmp_path / "old/media"), MediaStore(tmp_path / "new/media")
    before = rows_of(tmp_path / "old", [showing([picture(old, stamps[0])], "x")], 4, earlier=True)
    small = [np.asarray(Image.fromarray(pixels).resize((96, 96))) for pixels in stamps]
    shown = [[picture(new, pixels)] for pixels in stamps[1:6]]
    shown += [[picture(new, small[0])], [picture(new, stamps[8]), picture(new, stamps[2], 60)], [shown[0][0]]]
    after = rows_of(tmp_path / "new", [showing(keys, "x") for keys in shown], 3)
    rows = Rows([*before.parts, *after.parts])
    config = semantic.Semantic(model=towers, of="image", min_cosine=0.9995, trusted=True)
    found = kept_by(rows, config, tmp_path / "new")
    order = [0, 1, 2, 3, 4, 5]
    vectors = embedding.embed_images(towers, [stamps[i] for i in order] + [small[0], stamps[8]]).astype(np.float16)
    assert brute(vectors[:6], np.zeros(6, np.int64), 0.9995) == order  # no two of these stamps are alike to it
    assert found == {6: 0, 7: 2}


def test_a_missing_picture_is_no_silent_loss(towers: str, tmp_path: Path) -> None:
    rows = rows_of(tmp_path, [showing(["ab" * 32 + ".png"], "x")], 3)
    with pytest.raises(RecipeError, match="not to be had now"):
        kept_by(rows, semantic.Semantic(model=towers, of="image", trusted=True), tmp_path)


@pytest.mark.usefixtures("spark", "ray")
def test_ray_and_spark_leave_the_pairs_of_the_local_runner(encoder: str, tmp_path: Path) -> None:
    texts = [text for pair in PARAPHRASES for text in pair]
    found = []
    for name in ("local", "ray", None):
        rows = rows_of(tmp_path / str(name), [words(text) for text in texts], 2)
        config = semantic.Semantic(model=encoder, min_cosine=0.85, trusted=True)
        found.append(kept_by(rows, config, tmp_path / str(name), name))
    assert found[0] == found[1] == found[2] == {1: 0, 3: 2, 5: 4}
