"""Answers that are places in a picture: boxes matched one to one, a point within a region."""

import itertools
import re
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from data_engine import grounding
from data_engine.verify.judgement import Judgement
from data_engine.verify.truth import XY, Box, Coordinates, Corners, Point

Floats = npt.NDArray[np.float64]

_N = r"[-+]?\d{1,7}(?:\.\d{1,12})?"
_SEP = r"(?:\s*[,，;]\s*|\s+)"
_FOUR = re.compile(rf"[\[(]\s*({_N}){_SEP}({_N}){_SEP}({_N}){_SEP}({_N})\s*[\])]")
_TWO_PAIRS = re.compile(
    rf"[\[(]\s*({_N}){_SEP}({_N})\s*[\])]\s*(?:,|to|and|-|–|->|→|到|至)?\s*[\[(]\s*({_N}){_SEP}({_N})\s*[\])]"
)
_NAMED_FOUR = re.compile(
    rf"\b(?:x1|x_?min|left)\W{{1,4}}({_N})\D{{1,6}}?(?:y1|y_?min|top)\W{{1,4}}({_N})"
    rf"\D{{1,6}}?(?:x2|x_?max|right)\W{{1,4}}({_N})\D{{1,6}}?(?:y2|y_?max|bottom)\W{{1,4}}({_N})",
    re.IGNORECASE,
)
_PAIR = re.compile(rf"[\[(]\s*({_N}){_SEP}({_N})\s*[\])]")
_NAMED_PAIR = re.compile(rf"\bx\W{{1,4}}({_N})\D{{1,6}}?\by\W{{1,4}}({_N})", re.IGNORECASE)
_BARE = re.compile(rf"(?<![\w.])({_N})(?![\w.]*\d)")


def boxes(truth: Box, answer: str) -> Judgement:
    """All boxes of the truth and no others. The score is the mean overlap of the best one-to-one assignment, over the
    larger of both numbers of boxes: a box too many or too few counts as 0.
    """
    found, given = read_boxes(answer, truth.answer_in or truth.coordinates)
    if not found:
        return Judgement(False, 0.0, "no box")
    if given != truth.coordinates and truth.size is None:
        return Judgement(False, 0.0, f"boxes in {given}: the truth in {truth.coordinates} needs its size to compare")
    said = _moved(np.array(found, np.float64).reshape(-1, 2), given, truth).reshape(-1, 4)
    overlaps = iou(np.array(truth.boxes, np.float64), said)
    rows, columns = assigned(overlaps, truth.min_iou)
    chosen = overlaps[rows, columns]
    score = float(chosen.sum() / max(overlaps.shape))
    hits = int((chosen >= truth.min_iou).sum())
    if overlaps.shape[0] != overlaps.shape[1]:
        return Judgement(False, score, f"{len(said)} boxes where there are {len(truth.boxes)}; {hits} of them fit")
    right = hits == len(truth.boxes)
    return Judgement(right, score, f"{hits} of {len(truth.boxes)} boxes overlap by {truth.min_iou:g} or more")


def read_boxes(answer: str, given: Coordinates) -> tuple[list[Corners], Coordinates]:
    """The boxes of an answer, and what they are in: Keyeforge's marks, else brackets, corners, names, four numbers."""
    marked = [s for s in grounding.parse(answer)[0] if isinstance(s, grounding.Box)]
    if marked:
        return [(box.x1, box.y1, box.x2, box.y2) for box in marked], "bins"
    for form in (_FOUR, _TWO_PAIRS, _NAMED_FOUR):
        if found := form.findall(answer):
            return [_corners(match) for match in found], given
    bare = _BARE.findall(answer)
    return ([_corners(bare)] if len(bare) == 4 else []), given


def _corners(numbers: Sequence[str]) -> Corners:
    x1, y1, x2, y2 = map(float, numbers)
    return (x1, y1, x2, y2)


def _moved(xy: Floats, given: Coordinates, truth: Box | Point) -> Floats:
    """Points [n, 2] in the truth's coordinates. A bin stands for its middle, as `grounding.denormalise` has it."""
    if given == truth.coordinates or truth.size is None:
        return xy
    if given == "bins":
        return grounding.denormalise(xy, *truth.size)
    moved: Floats = xy / np.array(truth.size) * grounding.BINS - 0.5
    return moved


def iou(one: Floats, other: Floats) -> Floats:
    """Intersection over union [n, m] of boxes [n, 4] and [m, 4] (left, top, right, bottom); 0 where either is empty."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    area, areas = (np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1) for boxes in (one, other))
    union = area[:, None] + areas[None, :] - shared
    found: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def assigned(overlaps: Floats, least: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows and columns of the one-to-one assignment with the most overlaps of at least `least`, and among those with
    the greatest sum (scipy's linear sum assignment; by the sum alone a pair that fits may be given away).
    """
    from scipy.optimize import linear_sum_assignment

    worth = overlaps + (overlaps >= least) * (1.0 + min(overlaps.shape))
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return rows, columns


def point(truth: Point, answer: str) -> Judgement:
    """One point, within the region or on its edge."""
    found, given = read_points(answer, truth.answer_in or truth.coordinates)
    if len(found) != 1:
        return Judgement(False, 0.0, f"{len(found)} points where one was asked for" if found else "no point")
    if given != truth.coordinates and truth.size is None:
        return Judgement(False, 0.0, f"a point in {given}: the truth in {truth.coordinates} needs its size to compare")
    x, y = (float(value) for value in _moved(np.array(found, np.float64), given, truth)[0])
    if truth.box is not None:
        left, top, right, bottom = truth.box
        within = left <= x <= right and top <= y <= bottom
    else:
        within = inside((x, y), truth.polygon or ())
    return Judgement(within, float(within), f"({x:g}, {y:g}) is {'in' if within else 'outside'} the region")


def read_points(answer: str, given: Coordinates) -> tuple[list[XY], Coordinates]:
    """The points of an answer, and what they are in: Keyeforge's marks, else brackets, names, two numbers."""
    marked = [s for s in grounding.parse(answer)[0] if isinstance(s, grounding.Point)]
    if marked:
        return list(dict.fromkeys((float(one.x), float(one.y)) for one in marked)), "bins"
    for form in (_PAIR, _NAMED_PAIR):
        if found := form.findall(answer):
            return list(dict.fromkeys((float(x), float(y)) for x, y in found)), given
    bare = _BARE.findall(answer)
    return ([(float(bare[0]), float(bare[1]))] if len(bare) == 2 else []), given


def inside(xy: XY, polygon: Sequence[XY]) -> bool:
    """Is a point within a polygon or on its edge? Exact, by crossings of a ray to the right (even-odd rule)."""
    x, y = Fraction(xy[0]), Fraction(xy[1])
    corners = [(Fraction(a), Fraction(b)) for a, b in polygon]
    odd = False
    for (x1, y1), (x2, y2) in itertools.pairwise([*corners, corners[0]]):
        side = (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)
        if side == 0 and min(x1, x2) <= x <= max(x1, x2) and min(y1, y2) <= y <= max(y1, y2):
            return True
        if (y1 > y) != (y2 > y) and (side > 0) == (y2 > y1):
            odd = not odd
    return odd
