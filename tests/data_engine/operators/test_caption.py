"""Caption and picture operators against brute force, planted captions and real pictures."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from data_engine import image_measures
from data_engine.describe import PICTURE
from data_engine.media import decode_image
from data_engine.operators import caption
from data_engine.operators.base import Operator

NUMBER = st.none() | st.integers(1, 900)


def picture(**known: Any) -> dict[str, Any]:
    return {"key": "k", "kind": "image", **known}


def batch(rows: list[list[dict[str, Any] | None]]) -> pa.Table:
    return pa.table({"pictures": pa.array(rows, pa.list_(PICTURE))})


def judged(operator: Operator, table: pa.Table) -> tuple[dict[str, list[Any]], list[str | None]]:
    measured = operator.measure(table)
    verdicts: list[str | None] = operator.decide(pa.table(measured)).to_pylist()
    return {name: column.to_pylist() for name, column in measured.items()}, verdicts


@given(st.lists(st.lists(st.none() | st.tuples(st.integers(1, 900), st.integers(1, 900)), max_size=4), max_size=6))
def test_sizes_of_all_pictures_equal_brute_force(rows: list[list[tuple[int, int] | None]]) -> None:
    table = batch([[size and picture(width=size[0], height=size[1]) for size in row] for row in rows])
    found, _ = judged(caption.Pictures(), table)
    seen = [[size for size in row if size] for row in rows]
    assert found["pictures"] == [len(row) for row in rows]
    assert found["smallest_side"] == [min(map(min, row), default=None) for row in seen]
    expected = [max((max(size) / min(size) for size in row), default=None) for row in seen]
    assert found["largest_aspect"] == expected


def test_a_small_second_picture_is_seen() -> None:
    table = batch([[picture(width=99, height=99)] * 2, [picture(width=99, height=99), picture(width=99, height=9)], []])
    assert judged(caption.Pictures(), table)[1] == [None, "image too small", None]


def test_a_slice_of_a_table_is_judged_like_the_table() -> None:
    table = batch([[picture(width=9, height=9)], [picture(width=99, height=99)], [], [picture(width=9, height=99)]])
    assert judged(caption.Pictures(), table.slice(1))[1] == judged(caption.Pictures(), table)[1][1:]


def test_real_pictures_out_of_focus_are_dropped(corpora: Any) -> None:
    pixels = decode_image((corpora / "scene_text/scenetext01.jpg").read_bytes())
    blurred = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(6)))
    seen = [picture(sharpness=image_measures.measure(image)["sharpness"]) for image in (pixels, blurred)]
    found, verdicts = judged(caption.Blur(), batch([[seen[0]], [seen[1]], seen]))
    assert verdicts == [None, "blurred image", "blurred image"]
    assert found["min_sharpness"][2] == found["min_sharpness"][1]


def test_a_real_animation_is_dropped_and_a_video_is_not() -> None:
    buffer = io.BytesIO()
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 90, 200)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    count = getattr(Image.open(buffer), "n_frames", 1)
    table = batch([[picture(frames=count)], [picture(frames=1)], [{"key": "v", "kind": "video", "frames": 90}], [None]])
    assert judged(caption.Animated(), table)[1] == ["animated image", None, None, None]


@pytest.mark.parametrize(
    "text",
    [
        *("Click here to see more", "A dog. Stock photo", "Photo by Jane", "© 2020 Acme", "Getty Images"),
        *("点击查看大图", "图片来源：网络", "版权所有", "IMG_2034", "cat-on-mat.jpeg"),
    ],
)
def test_boilerplate_is_found(text: str) -> None:
    assert judged(caption.Boilerplate(), pa.table({"target": [text]}))[1] == ["boilerplate"]


def test_real_captions_have_no_boilerplate(corpora: Any) -> None:
    from data_engine.sources.captions import parse_sidecar

    files = [Path(path) for path in (corpora / "stamps").rglob("*.txt")]
    sidecars = [parse_sidecar(path.read_text(encoding="utf-8")) for path in files]
    captions = [found[language] for found in sidecars for language in ("en", "zh_CN") if found.get(language)]
    assert len(captions) > 1000
    assert set(judged(caption.Boilerplate(), pa.table({"target": captions}))[1]) == {None}
    assert set(judged(caption.Hashtags(), pa.table({"target": captions}))[1]) == {None}


def test_a_caption_that_is_the_files_name() -> None:
    origins = ["animals/big_cat-2.png#en", "animals/big_cat-2.png", "a/b.jsonl:12", "", "青蛙.jpg"]
    targets = ["Big cat 2", "A big cat", "b", "", "青蛙。"]
    found = judged(caption.FileName(), pa.table({"origin": origins, "target": targets}))[1]
    assert found == [reason and "caption is the file's name" for reason in (True, None, True, None, True)]


def test_hashtag_share_is_of_the_characters() -> None:
    texts = ["#cat #dog", "a #cat", "#话题# 今天", "C# is # 1", "", "no tags"]
    found, verdicts = judged(caption.Hashtags(), pa.table({"target": texts}))
    assert found["hashtag_share"] == pytest.approx([1.0, 0.8, 4 / 6, 0.0, 0.0, 0.0])
    assert verdicts == ["mostly hashtags"] * 3 + [None] * 3
