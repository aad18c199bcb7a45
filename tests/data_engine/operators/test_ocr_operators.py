"""OCR operators against scipy, shapely and brute force, and on pictures that two engines really read."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats
import shapely
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from data_engine.media import MediaStore
from data_engine.models import ocr as reader
from data_engine.operators import ocr
from data_engine.operators.base import Operator

LINES = ["CHAPTER ONE", "The quick brown fox", "jumps over the lazy dog", "and sleeps until noon."]
BOXES_TYPE = pa.list_(pa.list_(pa.float64()))


def page(lines: list[str]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    image = Image.new("RGB", (640, 60 * len(lines) + 60), "white")
    font = ImageFont.truetype("DejaVuSans.ttf", 32)
    for number, line in enumerate(lines):
        ImageDraw.Draw(image).text((40, 40 + 60 * number), line, fill="black", font=font)
    return np.asarray(image)


@pytest.fixture(scope="module")
def reading() -> reader.OcrResult:
    return reader.read_text(page(LINES))


def table(**columns: list[Any]) -> pa.Table:
    types = {"ocr_boxes": BOXES_TYPE, "ocr_text": pa.string(), "width": pa.float64(), "height": pa.float64()}
    return pa.table({name: pa.array(values, types.get(name)) for name, values in columns.items()})


def judged(operator: Operator, batch: pa.Table) -> tuple[dict[str, list[Any]], list[str | None]]:
    measured = operator.measure(batch)
    verdicts: list[str | None] = operator.decide(pa.table(measured)).to_pylist()
    return {name: column.to_pylist() for name, column in measured.items()}, verdicts


def test_a_real_reading_has_a_box_for_every_line(reading: reader.OcrResult) -> None:
    assert len(reading.boxes) == reading.num_lines == len(LINES) == len(reading.text.split("\n"))
    for number, (x1, y1, x2, y2) in enumerate(reading.boxes):
        middle = 40 + 60 * number + 20
        assert 0 <= x1 < x2 <= 640 and y1 < middle < y2 and y2 - y1 < 60


def test_a_real_reading_is_sane_and_in_order(reading: reader.OcrResult) -> None:
    pixels = page(LINES)
    batch = table(
        target=[reading.text, "\n".join(reversed(reading.text.split("\n"))), "nothing of it"],
        ocr_text=[reading.text] * 3,
        ocr_boxes=[[list(box) for box in reading.boxes]] * 3,
        width=[float(pixels.shape[1])] * 3,
        height=[float(pixels.shape[0])] * 3,
    )
    boxes, verdicts = judged(ocr.OcrBoxes(), batch)
    assert verdicts == [None] * 3 and boxes["ocr_box_outside"] == [0.0] * 3
    assert boxes["ocr_box_misfit"][0] < 1.7
    assert judged(ocr.OcrOrder(), batch) == (
        {"ocr_order": [1.0, -1.0, None]}, [None, "label not in reading order", None]
    )  # fmt: skip
    density, _ = judged(ocr.OcrDensity(), batch)
    assert 0.1 < density["ocr_covered"][0] < 0.5
    letters = sum(not letter.isspace() for letter in reading.text)
    assert density["ocr_density"][0] == pytest.approx(letters / (pixels.shape[0] * pixels.shape[1] / 1e6))


def test_planted_boxes_are_found() -> None:
    good, outside, thin = [10.0, 10.0, 110.0, 30.0], [10.0, 10.0, 260.0, 30.0], [10.0, 10.0, 110.0, 11.0]
    batch = table(
        ocr_text=["ten lettersx", "ten letters", "ten letters", "ten letters", "一二三四五", "one\ntwo", None, ""],
        ocr_boxes=[[good], [outside], [thin], [[0.0, 0.0, 200.0, 4.0]], [good], [good], None, []],
        width=[200.0] * 8,
        height=[100.0] * 8,
    )
    measured, verdicts = judged(ocr.OcrBoxes(), batch)
    assert verdicts == [
        None, "text box outside the picture", "text box too thin", "text does not fit its box", None, None, None, None
    ]  # fmt: skip
    assert measured["ocr_box_outside"] == [0.0, 60.0, 0.0, 0.0, 0.0, 0.0, None, None]
    assert measured["ocr_box_misfit"][4] == pytest.approx(1.0)  # five Han characters in a box five times as long
    assert measured["ocr_box_misfit"][5] is None  # two lines, one box: nothing to compare


@given(st.lists(st.lists(st.floats(0, 9), max_size=5), max_size=6))
def test_medians_are_those_of_statistics(rows: list[list[float]]) -> None:
    values = np.array([value for row in rows for value in row])
    row = np.array([number for number, row in enumerate(rows) for _ in row], np.int64)
    expected = [statistics.median(row) if row else float("nan") for row in rows]
    np.testing.assert_allclose(ocr.medians(values, row, len(rows)), expected)


@given(st.permutations(range(7)))
def test_order_of_one_column_is_kendalls_tau(places: list[int]) -> None:
    boxes = np.array([[5.0, 20 * n, 300, 20 * n + 15] for n in range(7)])
    expected = scipy.stats.kendalltau(places, range(7)).statistic
    assert ocr.kendall(np.array(places), boxes) == pytest.approx(expected)


def test_rows_and_columns_are_both_reading_orders() -> None:
    grid = [[x, y, x + 80.0, y + 12.0] for y in (0.0, 20.0, 40.0) for x in (0.0, 100.0)]
    across, down = np.arange(6), np.array([0, 3, 1, 4, 2, 5])
    boxes = np.array(grid)
    assert ocr.kendall(across, boxes) == ocr.kendall(down, boxes) == 1.0
    assert ocr.kendall(np.array([5, 2, 4, 1, 3, 0]), boxes) < 0


BOX = st.tuples(*[st.integers(0, 9)] * 4).map(
    lambda v: (min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]), max(v[1], v[3]))
)


@given(st.lists(st.lists(BOX, max_size=5), min_size=1, max_size=4))
def test_union_area_is_what_shapely_says(rows: list[list[tuple[int, ...]]]) -> None:
    flat = np.array([box for row in rows for box in row], np.float64).reshape(-1, 4)
    offsets = np.cumsum([0, *map(len, rows)])
    expected = [shapely.unary_union([shapely.box(*box) for box in row]).area for row in rows]
    np.testing.assert_allclose(ocr.union_area(flat, offsets), expected)


def test_scripts() -> None:
    batch = table(
        ocr_text=["Exit 12", "出口", "ウサギの家", "Выход", "123", None],
        target=["EXIT", "Exit", "ウサギの家", "Выход", "x", "x"],
    )
    measured, verdicts = judged(ocr.OcrScript(scripts=("latin", "han", "kana")), batch)
    assert measured["ocr_script"] == ["latin", "han", "kana", "cyrillic", None, None]
    assert verdicts == [None, "label in another script than the picture", None, "script not wanted", None, None]


def test_a_crowded_page_can_be_refused() -> None:
    batch = table(ocr_text=["ab", "ab"], ocr_boxes=[[[0, 0, 90, 100]], [[0, 0, 9, 9]]], width=[100.0] * 2,
                  height=[100.0] * 2)  # fmt: skip
    measured, verdicts = judged(ocr.OcrDensity(max_covered=0.5), batch)
    assert verdicts == ["too much text", None]
    assert measured["ocr_covered"] == pytest.approx([0.9, 0.0081])


def test_two_engines_confirm_each_other_on_print_and_not_on_a_wrong_reading(
    reading: reader.OcrResult, tmp_path: Path
) -> None:
    pytest.importorskip("rapidfuzz")
    from data_engine.models import tesseract
    from strict_yaml import RecipeError

    try:
        tesseract.require(["eng"])
    except RecipeError as error:
        pytest.skip(str(error))
    store = MediaStore(tmp_path)
    path = tmp_path / "page.png"
    Image.fromarray(page(LINES)).save(path)
    pictures = [{"key": store.put_file(path), "kind": "image"}]
    batch = pa.table({"ocr_text": [reading.text, "something else", None], "pictures": [pictures] * 3})
    operator = ocr.OcrEngines(languages=("eng",))
    measured = operator.measure_media(batch, store)
    right, wrong, none = measured["engine_agreement"].to_pylist()
    assert right > 0.95 and wrong < 0.5 and none is None
    assert operator.decide(pa.table(measured)).to_pylist() == [None, "OCR engines disagree", None]


def test_a_language_that_is_not_installed_is_named() -> None:
    with pytest.raises(ValueError, match="tesseract-ocr-xyz"):
        ocr.OcrEngines(languages=("xyz",)).require()
