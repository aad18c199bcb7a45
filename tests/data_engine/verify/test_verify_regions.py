"""Boxes, points and spans against brute force and exact constructions."""

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest

from data_engine.grounding import Box as Mark
from data_engine.grounding import render
from data_engine.verify.check import judge
from data_engine.verify.regions import assigned, inside, iou
from data_engine.verify.spans import overlap
from data_engine.verify.truth import truth_from


def test_iou_is_the_share_of_pixels() -> None:
    rng = np.random.default_rng(3)
    low, side = rng.integers(0, 20, (40, 2)), rng.integers(1, 15, (40, 2))
    boxes = np.hstack([low, low + side]).astype(np.float64)
    grids = np.zeros((40, 40, 40), bool)
    for grid, (x1, y1, x2, y2) in zip(grids, boxes.astype(int), strict=True):
        grid[y1:y2, x1:x2] = True
    expected = [[(a & b).sum() / (a | b).sum() for b in grids] for a in grids]
    assert iou(boxes, boxes) == pytest.approx(np.array(expected), abs=1e-12)


@pytest.mark.parametrize("least", [0.3, 0.5, 0.7])
def test_the_assignment_is_the_best_of_all_permutations(least: float) -> None:
    rng = np.random.default_rng(5)
    for _ in range(150):
        overlaps = rng.random((rng.integers(1, 6), rng.integers(1, 6)))
        wide = overlaps if overlaps.shape[0] <= overlaps.shape[1] else overlaps.T
        ways = itertools.permutations(range(wide.shape[1]), wide.shape[0])
        best = max(((row := wide[range(len(way)), way]) >= least).sum() * 100 + row.sum() for way in ways)
        chosen = overlaps[assigned(overlaps, least)]
        assert (chosen >= least).sum() * 100 + chosen.sum() == pytest.approx(best)


def test_a_pair_that_fits_is_not_given_away_for_a_greater_sum() -> None:
    overlaps = np.array([[0.55, 1.0], [0.0, 0.6]])
    assert overlaps[assigned(overlaps, 0.5)].tolist() == [0.55, 0.6]


@pytest.mark.parametrize(("right", "edge"), [(True, 5.0), (False, 4.9999)])
def test_a_box_counts_from_its_threshold_on(right: bool, edge: float) -> None:
    truth = truth_from({"kind": "box", "boxes": [[0, 0, 10, 10]], "min_iou": 0.5})
    assert judge(truth, f"[0, 0, 10, {edge}]").right is right


def test_marks_in_bins_meet_a_truth_in_pixels_and_the_other_way() -> None:
    said = render([Mark(100, 200, 500, 800)])
    pixels = {"kind": "box", "boxes": [[64.32, 96.24, 320.32, 384.24]], "min_iou": 0.999, "size": [640, 480]}
    assert judge(truth_from(pixels), said).right
    assert "needs its size" in judge(truth_from({**pixels, "size": None}), said).why
    bins = {"kind": "box", "boxes": [[100, 200, 500, 800]], "min_iou": 0.999, "coordinates": "bins"}
    assert judge(truth_from(bins), said).right
    there = {**bins, "answer_in": "pixels", "size": [640, 480]}
    assert judge(truth_from(there), "[64.32, 96.24, 320.32, 384.24]").right


def test_inside_a_polygon_against_its_grid() -> None:
    rng = random.Random(2)
    for _ in range(60):
        corners = [(rng.randrange(12), rng.randrange(12)) for _ in range(3)]
        (ax, ay), (bx, by), (cx, cy) = corners
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        for x, y in itertools.product(range(12), repeat=2):
            parts = [(qx - px) * (y - py) - (qy - py) * (x - px) for (px, py), (qx, qy) in
                     zip(corners, corners[1:] + corners[:1], strict=True)]  # fmt: skip
            assert inside((x, y), corners) is all(Fraction(part, area) >= 0 for part in parts)


def test_overlap_of_spans_is_the_share_of_seconds() -> None:
    rng = random.Random(4)
    for _ in range(300):
        one, other = (sorted(rng.sample(range(60), 2)) for _ in range(2))
        a, b = set(range(*one)), set(range(*other))
        assert overlap((one[0], one[1]), (other[0], other[1])) == pytest.approx(
            len(a & b) / (max(one[1], other[1]) - min(one[0], other[0])) if a & b else 0
        )
