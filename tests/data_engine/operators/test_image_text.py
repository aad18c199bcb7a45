"""Scorers: evidence that they can score, the same figures as transformers' own, and planted mismatches found."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from data_engine import grounding as g
from data_engine.media import MediaStore
from data_engine.models import image_text, train_two_tower
from data_engine.operators.grounding import CropTextScore, crop
from data_engine.operators.image_text import ImageTextScore
from tests.data_engine.operators.conftest import COLOURS, draw


def test_retrieval_of_held_out_categories_shows_what_was_learnt(scorer: Path) -> None:
    evidence = json.loads((scorer / image_text.EVIDENCE).read_text(encoding="utf-8"))
    assert len(evidence["held_out_categories"]) == 3
    for language in ("english", "chinese"):
        assert evidence[language]["wins"] > 0.8
        assert evidence[language]["standard_errors_over_chance"] > 3
    image_text.require(str(scorer), trusted=False)


def test_random_towers_are_refused(random_towers: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="random towers never count"):
        ImageTextScore(model=str(random_towers)).require()
    ImageTextScore(model=str(random_towers), trusted=True).require()
    without = shutil.copytree(random_towers, tmp_path / "without")
    (without / image_text.EVIDENCE).unlink()
    with pytest.raises(ValueError, match="random towers never count"):
        ImageTextScore(model=str(without)).require()
    with pytest.raises(ValueError, match="no checkpoint"):
        ImageTextScore(model=str(tmp_path / "nowhere")).require()


def test_scores_are_those_of_transformers(scorer: Path) -> None:
    import torch
    from transformers import AutoImageProcessor, SiglipModel

    from model.tokenizer import load_tokenizer

    pictures = [np.asarray(draw(colour, 3)) for colour in COLOURS]
    texts = [f"A {colour} thing." for colour in COLOURS]
    model = SiglipModel.from_pretrained(scorer).eval()
    tokens = load_tokenizer(scorer)(texts, padding="max_length", max_length=20, return_tensors="pt")
    pixels = AutoImageProcessor.from_pretrained(scorer, backend="pil")(images=pictures, return_tensors="pt")
    with torch.no_grad():
        seen = model(input_ids=tokens["input_ids"], pixel_values=pixels["pixel_values"])
    expected = (seen.image_embeds * seen.text_embeds).sum(dim=1).numpy()
    np.testing.assert_allclose(image_text.similarity(str(scorer), pictures, texts), expected, atol=1e-5)


def test_a_clip_folder_is_loaded_the_same_way(scorer: Path, tmp_path: Path) -> None:
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    from model.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(scorer)
    tokenizer.save_pretrained(tmp_path)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1}
    text = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.pad_token_id, "max_position_embeddings": 20}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**tower, **text}, vision_config={**tower, "image_size": 32, "patch_size": 8}, projection_dim=24
    )
    CLIPModel(config).save_pretrained(tmp_path)
    vectors = image_text.embed_images(str(tmp_path), [np.asarray(draw("red", 1))])
    words = image_text.embed_texts(str(tmp_path), ["A red thing.", "x", "A red thing."])
    assert vectors.shape == (1, 24) and words.shape == (3, 24)
    np.testing.assert_allclose(np.linalg.norm(words, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(words[0], words[2])
    assert abs(float(words[0] @ words[1])) < 0.9999


@pytest.fixture
def batch(tmp_path: Path) -> tuple[pa.Table, MediaStore]:
    """A picture of every colour with its right caption, then with that of another colour; then what has no score."""
    store, keys = MediaStore(tmp_path / "media"), []
    for colour in COLOURS:
        draw(colour, 20).save(tmp_path / "one.png")
        keys.append(store.put_file(tmp_path / "one.png"))
    captions = [f"A {colour} thing." for colour in COLOURS]
    broken = store.put_bytes(b"nothing", ".png")
    pictures = [[{"key": key, "kind": "image"}] for key in [*keys, *keys, broken, keys[0]]]
    pictures += [[{"key": keys[0], "kind": "video"}], [None], []]
    targets = [*captions, *captions[1:], captions[0], "A red thing.", "", *["A red thing."] * 3]
    return pa.table({"pictures": pictures, "target": targets}), store


def test_planted_mismatches_score_lower(batch: tuple[pa.Table, MediaStore], scorer: Path) -> None:
    table, store = batch
    measures = pa.table(ImageTextScore(model=str(scorer)).measure_media(table, store))
    scores = measures["image_text_score"].to_pylist()
    assert scores[16:] == [None] * 5
    right, wrong = np.array(scores[:8]), np.array(scores[8:16])
    assert (right > wrong).sum() >= 7
    halved = ImageTextScore(model=str(scorer), min_percentile=50, below="recaption")
    verdicts = halved.decide(measures).to_pylist()
    assert sum(verdict is not None for verdict in verdicts[:8]) <= 1 and verdicts[16:] == [None] * 5
    assert {verdict for verdict in verdicts if verdict} == {"image and text do not match"}
    assert halved.route == "recaption" and ImageTextScore(model=str(scorer)).route is None
    settled = halved.settled(measures)
    assert settled.min_percentile is None
    assert settled.decide(measures.slice(8, 3)).to_pylist() == verdicts[8:11]
    assert ImageTextScore(model=str(scorer)).decide(measures).null_count == len(measures)
    dropped = ImageTextScore(model=str(scorer), min_score=1.1).decide(measures)
    assert dropped.to_pylist() == ["image and text do not match"] * 16 + [None] * 5


def test_a_box_must_show_its_label(scorer: Path, tmp_path: Path) -> None:
    canvas = Image.new("RGB", (256, 128), "white")
    canvas.paste(draw("red", 20), (16, 32))
    canvas.paste(draw("blue", 20), (160, 32))
    canvas.save(tmp_path / "canvas.png")
    store = MediaStore(tmp_path / "media")
    pictures: list[Any] = [{"key": store.put_file(tmp_path / "canvas.png"), "kind": "image"}]
    left, right = (g.normalise([[x, 32], [x + 64, 96]], 256, 128).ravel().tolist() for x in (16, 160))
    red, blue = g.Label("A red thing."), g.Label("A blue thing.")
    texts = [
        g.render([g.Box(*left, red), g.Box(*right, blue)]),
        g.render([g.Box(*left, blue), g.Box(*right, red)]),
        g.render([g.Box(*left, red), g.Box(*right, red)]),
        "A blue thing. " + g.render([g.Box(*right)]),
        g.render([g.Point(5, 5)]),
        "no marks",
    ]
    operator = CropTextScore(model=str(scorer))
    table = pa.table({"text": texts, "target": texts, "pictures": [pictures] * 6})
    measures = pa.table(operator.measure_media(table, store))
    good, bad, half, prose, *none = measures["crop_text_score"].to_pylist()
    assert none == [None, None]
    assert min(good, prose) > half and good > bad
    strict = CropTextScore(model=str(scorer), min_score=(good + half) / 2)
    assert strict.decide(measures).to_pylist()[:3] == [None, *["box does not show its label"] * 2]


def test_a_crop_is_what_the_shape_covers() -> None:
    pixels = np.arange(100 * 200 * 3, dtype=np.uint32).reshape(100, 200, 3).astype(np.uint8)
    box = g.Box(100, 200, 299, 599)
    np.testing.assert_array_equal(crop(pixels, box, 0.0), pixels[20:60, 20:60])
    polygon = g.Polygon(((100, 200), (299, 300), (150, 599)))
    np.testing.assert_array_equal(crop(pixels, polygon, 0.0), pixels[20:60, 20:60])
    assert crop(pixels, g.Box(0, 0, 999, 999), 0.5).shape == pixels.shape
    assert min(crop(pixels, g.Box(500, 500, 500, 500), 0.0).shape[:2]) >= 8


def test_clustered_errors_closed_forms() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=50)
    alone = train_two_tower.clustered_error(values, [str(n) for n in range(50)])
    assert alone == pytest.approx(values.std(ddof=1) / np.sqrt(50))  # every value its own cluster: the usual error
    doubled = train_two_tower.clustered_error(np.repeat(values, 2), [str(n // 2) for n in range(100)])
    assert doubled == pytest.approx(alone)  # the same value twice is no more evidence


def test_whole_categories_are_held_out(coloured_shapes: Path) -> None:
    pairs = train_two_tower.load_pairs(coloured_shapes)
    training, held_out = train_two_tower.split(pairs, seed=3)
    assert len(pairs) == 96 and len(training) + len(held_out) == 96 and len(held_out) == 24
    assert not {pair.category for pair in training} & {pair.category for pair in held_out}
