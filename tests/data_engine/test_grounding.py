"""Grounding marks: both ways exact, and no string is too strange to be judged."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from shapely.geometry import LinearRing

from data_engine import grounding as g
from model.visual_tokens import GROUNDING_TOKENS

BIN = st.integers(0, 999)
WORDS = st.text(max_size=12).filter(lambda text: text.strip() and not any(mark in text for mark in GROUNDING_TOKENS))
REFERENCE = st.none() | st.builds(g.Label, WORDS, st.just("object_ref"))
LABEL = REFERENCE | st.builds(g.Label, WORDS, st.just("ocr_text"))
CAPTION = WORDS.map(lambda text: text.split("\n")[0].strip())
TENTHS = st.integers(0, 99_999).map(lambda tenths: tenths / 10)
SHAPE = st.one_of(
    st.builds(g.Point, BIN, BIN, REFERENCE),
    st.builds(
        lambda a, b, c, d, label: g.Box(min(a, c), min(b, d), max(a, c), max(b, d), label), BIN, BIN, BIN, BIN, LABEL
    ),
    st.builds(
        lambda points, label: g.Polygon(g.clockwise(points), label),
        st.lists(st.tuples(BIN, BIN), min_size=3, max_size=7),
        LABEL,
    ),
    st.builds(lambda a, b, caption: g.Clip(min(a, b), max(a, b), caption), TENTHS, TENTHS, CAPTION),
)


@given(st.lists(SHAPE, max_size=6))
def test_parse_gives_back_what_was_rendered(shapes: list[g.Shape]) -> None:
    text = g.render(shapes)
    assert g.parse(text) == (shapes, [])
    assert g.render(g.parse(text)[0]) == text


PIECES = [*GROUNDING_TOKENS, "[[1, 2]]", "[[1, 2, 3, 4]]", "[[[1, 2], [3, 4], [5, 0]]]", "[0.0, 1.5]", "cat", " ", "\n"]


@given(st.lists(st.sampled_from(PIECES) | st.text(alphabet="[],. 0123456789-<|>", max_size=9), max_size=9))
@example(["<|box_start|>", "[[" + "9" * 5000 + ", 1, 2, 3]]", "<|box_end|>"])
@example(["<|box_start|>"] * 500)
def test_parse_judges_any_string(pieces: list[str]) -> None:
    text = "".join(pieces)
    shapes, faults = g.parse(text)
    assert g.parse(g.render(shapes)) == (shapes, [])  # what was accepted can be written
    marks = sum(text.count(token) for token in GROUNDING_TOKENS)
    assert bool(marks) or not (shapes or faults)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("It is here: <|point_start|>[[5, 7]]<|point_end|>.", g.Point(5, 7)),
        (
            "<|object_ref_start|>cat<|object_ref_end|><|box_start|>[[1, 2, 30, 40]]<|box_end|>",
            g.Box(1, 2, 30, 40, g.Label("cat")),
        ),
        (
            "<|ocr_text_start|>EXIT<|ocr_text_end|><|polygon_start|>[[[0, 0], [9, 0], [9, 9]]]<|polygon_end|>",
            g.Polygon(((0, 0), (9, 0), (9, 9)), g.Label("EXIT", "ocr_text")),
        ),
        ("<|clip_time_start|>[1.0, 2.5]<|clip_time_end|> A dog runs.\nMore.", g.Clip(1.0, 2.5, "A dog runs.")),
    ],
)
def test_the_forms_of_table_1(text: str, shape: g.Shape) -> None:
    assert g.parse(text) == ([shape], [])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("<|box_start|>[[1, 2, 3, 4]]", g.UNPAIRED),
        ("<|box_end|>[[1, 2, 3, 4]]<|box_start|>", g.UNPAIRED),
        ("<|box_start|>[[1, 2, 3, 4]]<|point_end|>", g.UNPAIRED),
        ("<|box_start|>[[1,2,3,4]]<|box_end|>", g.MALFORMED),
        ("<|box_start|>[[1, 2, 3]]<|box_end|>", g.MALFORMED),
        ("<|box_start|>[[01, 2, 3, 4]]<|box_end|>", g.MALFORMED),
        ("<|box_start|>[]<|box_end|>", g.MALFORMED),
        ("<|point_start|>[[1.5, 2]]<|point_end|>", g.MALFORMED),
        ("<|point_start|>[[1, 1000]]<|point_end|>", g.OUT_OF_RANGE),
        ("<|point_start|>[[-1, 1]]<|point_end|>", g.OUT_OF_RANGE),
        ("<|box_start|>[[5, 2, 3, 4]]<|box_end|>", g.CORNERS),
        ("<|polygon_start|>[[[0, 0], [9, 9]]]<|polygon_end|>", g.FEW_POINTS),
        ("<|polygon_start|>[[[0, 0], [9, 9], [9, 0]]]<|polygon_end|>", g.COUNTER_CLOCKWISE),
        ("<|clip_time_start|>[3.0, 2.0]<|clip_time_end|> x", g.TIMES),
        ("<|object_ref_start|>a<|object_ref_end|> <|point_start|>[[1, 1]]<|point_end|>", g.BAD_LABEL),
        ("<|ocr_text_start|>a<|ocr_text_end|><|point_start|>[[1, 1]]<|point_end|>", g.BAD_LABEL),
        ("<|object_ref_start|> <|object_ref_end|><|point_start|>[[1, 1]]<|point_end|>", g.EMPTY_LABEL),
    ],
)
def test_faults_are_named(text: str, fault: str) -> None:
    faults = g.parse(text)[1]
    assert faults and {found.kind for found in faults} == {fault}


def test_a_faulty_shape_does_not_hide_its_neighbours() -> None:
    shapes, faults = g.parse("<|box_start|>[[1, 2, 3, 4], [5, 6, 7, 1000]]<|box_end|>")
    assert shapes == [g.Box(1, 2, 3, 4)]
    assert faults == [g.Fault(g.OUT_OF_RANGE, 0)]


def test_a_label_alone_is_no_fault() -> None:
    assert g.parse("Where is the <|object_ref_start|>cat<|object_ref_end|>?") == ([], [])


@pytest.mark.parametrize(
    "shape",
    [
        g.Point(1000, 0),
        g.Point(1, 1, g.Label("x", "ocr_text")),
        g.Box(5, 0, 4, 9),
        g.Box(0, 0, 4, 9, g.Label(" ")),
        g.Box(0, 0, 4, 9, g.Label("a<|box_end|>")),
        g.Polygon(((1, 1), (2, 2))),
        g.Clip(0.25, 1.0),
        g.Clip(1.0, 2.0, "two\nlines"),
    ],
)
def test_what_has_no_exact_form_is_refused(shape: g.Shape) -> None:
    with pytest.raises(g.GroundingError):
        g.render([shape])


@given(st.lists(st.tuples(BIN, BIN), min_size=3, max_size=7, unique=True))
def test_rendered_polygons_run_clockwise_on_the_screen(points: list[g.XY]) -> None:
    turned = g.clockwise(points)
    assert turned[0] == points[0] and set(turned) == set(points)
    ring = LinearRing([(x, -y) for x, y in turned])  # shapely's y points up
    assume(ring.is_simple and g.signed_area(points))
    assert not ring.is_ccw


@given(BIN, BIN, st.integers(1, 20_000), st.integers(1, 20_000))
def test_bins_come_back_from_their_pixels(x: int, y: int, width: int, height: int) -> None:
    assert g.normalise(g.denormalise([x, y], width, height), width, height).tolist() == [x, y]


@given(BIN, st.integers(1, 4000))
def test_the_edge_of_a_bin_is_in_the_bin(x: int, width: int) -> None:
    assert g.normalise([x / 1000 * width, 0], width, 1).tolist() == [x, 0]


def test_corners_of_the_picture() -> None:
    assert g.normalise([[0, 0], [640, 480], [-3, 999]], 640, 480).tolist() == [[0, 0], [999, 999], [0, 999]]
    assert np.allclose(g.denormalise([[0, 999]], 1000, 2000), [[0.5, 1999.0]])
