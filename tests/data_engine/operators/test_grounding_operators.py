"""Grounding operators against shapely, brute force and planted faults."""

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from data_engine import grounding as g
from data_engine.operators import grounding
from data_engine.operators.base import Operator

COORDINATE = st.integers(0, 12)  # few places: shapes that touch are common


def verdicts(operator: Operator, **columns: list[Any]) -> list[str | None]:
    batch = pa.table(columns)
    measured = {name: pa.array(batch[name]) for name in columns} | operator.measure(batch)
    found: list[str | None] = operator.decide(pa.table(measured)).to_pylist()
    return found


@given(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=3, max_size=7, unique=True))
def test_crossing_is_what_shapely_says(points: list[tuple[int, int]]) -> None:
    simple = shapely.LinearRing(points).is_simple
    assert grounding.crosses_itself(np.array(points, np.int64)) is not simple


@given(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=3, max_size=7, unique=True))
def test_area_is_what_shapely_says(points: list[tuple[int, int]]) -> None:
    ring = shapely.LinearRing(points)
    expected = abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in itertools.pairwise(ring.coords))) / 2
    assert grounding.shoelace(np.array(points, np.int64)) == expected
    if ring.is_simple:
        assert shapely.Polygon(points).area == expected


BOX = st.builds(
    lambda a, b, c, d, label: (min(a, c), min(b, d), max(a, c), max(b, d), label),
    *[COORDINATE] * 4,
    st.integers(0, 1),
)


@given(st.lists(BOX, min_size=2, max_size=6))
def test_iou_is_what_shapely_says(boxes: list[tuple[int, ...]]) -> None:
    expected = 0.0
    for one, two in itertools.combinations(boxes, 2):
        first, second = shapely.box(*one[:4]), shapely.box(*two[:4])
        if one[4] == two[4] and first.union(second).area:
            expected = max(expected, first.intersection(second).area / first.union(second).area)
    assert grounding.max_iou(np.array(boxes, np.int64)) == pytest.approx(expected)


def test_sanity_names_each_planted_fault() -> None:
    cat = g.Label("cat")
    box = g.Box(100, 100, 300, 300, cat)
    sound = [box, g.Box(400, 400, 500, 500, cat), g.Point(7, 7), g.Polygon(((0, 0), (9, 0), (9, 9)))]
    rows = {
        "A cat and no marks.": None,
        g.render(sound): None,
        g.render(sound)
        .replace(", 300]]", ", 1300]]")
        .replace(", 300, 300]", ", 1300, 300]"): "grounding: coordinate out of range",
        g.render(sound).replace("[[", "[", 1): "grounding: malformed coordinates",
        g.render([g.Box(5, 5, 5, 90)]): "grounding: degenerate shape",
        g.render([g.Polygon(((0, 0), (5, 5), (9, 9)))]): "grounding: degenerate shape",
        g.render([box, box]): "grounding: duplicate shapes",
        g.render([box, g.Box(101, 101, 300, 300, cat)]): "grounding: one object boxed twice",
        g.render([box, g.Box(101, 101, 300, 300, g.Label("collar"))]): None,
        g.render([g.Polygon(g.clockwise([(0, 0), (90, 90), (90, 0), (0, 80)]))]): "grounding: polygon crosses itself",
        g.render([g.Point(n, n) for n in range(101)]): "grounding: too many shapes",
    }
    assert verdicts(grounding.GroundingSanity(), text=list(rows)) == list(rows.values())


def test_counting_compares_the_number_with_the_points() -> None:
    two = g.render([g.Point(1, 1), g.Point(2, 2)])
    rows = {
        f"There are 2 cats: {two}": None,
        f"There are 3 cats: {two}": "number is not that of the points",
        f"Three cats. {two}": "number is not that of the points",
        f"图中有两只猫。{two}": None,
        f"图中有十二只猫。{two}": "number is not that of the points",
        f"They sit together. {two}": None,
        f"The 3 cats and 2 dogs. {two}": None,  # which number is meant cannot be told
        "There are 3 cats.": None,
    }
    assert verdicts(grounding.Counting(), target=list(rows)) == list(rows.values())


@pytest.mark.parametrize(
    ("text", "number"),
    [("1,200 birds", 1200), ("2.5 cats", None), ("二十三个", 23), ("二十个", 20), ("一起玩", None), ("Ten!", 10)],
)
def test_stated_numbers(text: str, number: int | None) -> None:
    assert grounding.stated_number(text) == number
