"""Operators on grounding marks: are the shapes sound, does the crop show what the label says, is the count right?"""

import math
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_engine import grounding as g
from data_engine import numerals
from data_engine.media import MediaStore
from data_engine.models import image_text
from data_engine.operators.base import Operator, reasons
from data_engine.operators.image_text import Pixels, Scored, first_image, open_image
from data_engine.words import folded_text

ANY_MARK = r"<\|(point|box|polygon|clip_time|object_ref|ocr_text)_(start|end)\|>"
Ints = npt.NDArray[np.int64]


class GroundingSanity(Operator):
    """Drops samples whose points, boxes, polygons or clip times cannot be right.

    Sides are in bins of [0, 1000). Two boxes of one label that overlap by more than `max_iou` are one object
    annotated twice. Samples without a mark are none of its business.
    """

    looks_at: ClassVar[tuple[str, ...]] = (
        *("grounding_fault", "grounding_shapes", "grounding_min_side"),
        *("grounding_duplicates", "grounding_max_iou", "grounding_crossed"),
    )
    max_shapes: int = 100
    min_side: int = 1
    max_duplicates: int = 0
    max_iou: float = 0.9
    max_crossed: int = 0

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        rows, texts = marked(batch["text"])
        return _columns([_sanity(text) for text in texts], rows, len(batch), _SANITY)

    def decide(self, measures: pa.Table) -> pa.Array:
        fault = pc.binary_join_element_wise("grounding", measures["grounding_fault"], ": ")
        found = reasons(
            (pc.greater(measures["grounding_shapes"], self.max_shapes), "grounding: too many shapes"),
            (pc.less(measures["grounding_min_side"], self.min_side), "grounding: degenerate shape"),
            (pc.greater(measures["grounding_duplicates"], self.max_duplicates), "grounding: duplicate shapes"),
            (pc.greater(measures["grounding_max_iou"], self.max_iou), "grounding: one object boxed twice"),
            (pc.greater(measures["grounding_crossed"], self.max_crossed), "grounding: polygon crosses itself"),
        )
        return pc.coalesce(fault, found)


class Counting(Operator):
    """Drops answers whose number is not that of their points. Judged where there are both, and one number only."""

    looks_at: ClassVar[tuple[str, ...]] = ("count_stated", "count_points")

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        rows, texts = marked(batch["target"])
        return _columns([_counts(text) for text in texts], rows, len(batch), _COUNTS)

    def decide(self, measures: pa.Table) -> pa.Array:
        differs = pc.not_equal(measures["count_stated"], measures["count_points"])
        return reasons((differs, "number is not that of the points"))


class CropTextScore(Scored):
    """Drops samples with a box or polygon that does not show what its label says (report, section 3.2.1).

    The measure is the least cosine similarity, over the shapes on a sample's first picture, of the crop (with `margin`
    of its sides added all round) with the shape's label, or without one with the words of the answer; -1 to 1.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("crop_text_score",)
    measured_by: ClassVar[tuple[str, ...]] = ("model", "margin")
    margin: float = 0.1

    def measure_media(self, batch: pa.Table, store: MediaStore) -> dict[str, pa.Array]:
        rows, texts = marked(batch["text"])
        targets, pictures = (batch[name].take(pa.array(rows)).to_pylist() for name in ("target", "pictures"))
        looked = zip(texts, targets, pictures, strict=True)
        crops = [_crops(text, target, seen, store, self.margin) for text, target, seen in looked]
        scores = np.full(len(batch), np.nan)
        for row, pairs in zip(rows, crops, strict=True):
            if pairs:
                found = image_text.similarity(self.model, [crop for crop, _ in pairs], [words for _, words in pairs])
                scores[row] = found.min()
        return {"crop_text_score": pa.array(scores, from_pandas=True)}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((self.falls_short(measures), "box does not show its label"))


def _crops(
    text: str, target: str | None, pictures: Sequence[dict[str, Any] | None] | None, store: MediaStore, margin: float
) -> list[tuple[Pixels, str]]:
    """(crop, words) for every box and polygon of a text that has words to go with it."""
    shapes = [shape for shape in g.parse(text)[0] if isinstance(shape, g.Box | g.Polygon)]
    prose = " ".join(_TAKEN.sub(" ", target or "").split())
    wanted = [(shape, shape.label.text if shape.label else prose) for shape in shapes]
    key = first_image(pictures)
    pixels = open_image(key, store) if key and any(words for _, words in wanted) else None
    return [] if pixels is None else [(crop(pixels, shape, margin), words) for shape, words in wanted if words]


def crop(pixels: Pixels, shape: g.Box | g.Polygon, margin: float) -> Pixels:
    """The part of an RGB picture [H, W, 3] around a shape, with `margin` of its sides added; at least 8 pixels a side.

    Corners are the outer edges of their bins, so that nothing of the shape is cut.
    """
    corners = shape.points if isinstance(shape, g.Polygon) else ((shape.x1, shape.y1), (shape.x2, shape.y2))
    size = np.array([pixels.shape[1], pixels.shape[0]])
    low, high = np.min(corners, axis=0) / g.BINS * size, (np.max(corners, axis=0) + 1) / g.BINS * size
    room = np.maximum((high - low) * margin, (8 - (high - low)) / 2)
    x1, y1 = np.floor(np.maximum(low - room, 0)).astype(int)
    x2, y2 = np.ceil(np.minimum(high + room, size)).astype(int)
    return pixels[y1:y2, x1:x2]


_SANITY = pa.schema(
    [("grounding_shapes", pa.int32()), ("grounding_faults", pa.int32()), ("grounding_fault", pa.string())]
    + [("grounding_min_side", pa.int32()), ("grounding_duplicates", pa.int32()), ("grounding_max_iou", pa.float64())]
    + [("grounding_crossed", pa.int32())]
)
_COUNTS = pa.schema([("count_stated", pa.int64()), ("count_points", pa.int64())])


def marked(text: pa.ChunkedArray) -> tuple[Ints, list[str]]:
    """The rows whose text holds a grounding mark, and those texts. Most rows of most corpora end here."""
    hits = pc.fill_null(pc.match_substring_regex(text, ANY_MARK), False)
    return np.flatnonzero(hits.to_numpy(zero_copy_only=False)), text.filter(hits).to_pylist()


def _columns(found: Sequence[dict[str, Any]], rows: Ints, num_rows: int, schema: pa.Schema) -> dict[str, pa.Array]:
    """What was found of some rows as columns for all; null elsewhere."""
    place = np.full(num_rows, -1)
    place[rows] = np.arange(len(rows))
    table = pa.Table.from_pylist(list(found), schema=schema)
    indices = pa.array(place, mask=place < 0)
    return {name: table[name].combine_chunks().take(indices) for name in schema.names}


def _sanity(text: str) -> dict[str, Any]:
    shapes, faults = g.parse(text)
    boxes = [shape for shape in shapes if isinstance(shape, g.Box)]
    polygons = [np.array(shape.points, np.int64) for shape in shapes if isinstance(shape, g.Polygon)]
    sides = [min(box.x2 - box.x1, box.y2 - box.y1) for box in boxes]
    sides += [int(min(np.ptp(points, axis=0))) if shoelace(points) else 0 for points in polygons]
    return {
        "grounding_shapes": len(shapes),
        "grounding_faults": len(faults),
        "grounding_fault": faults[0].kind if faults else None,
        "grounding_min_side": min(sides, default=None),
        "grounding_duplicates": len(shapes) - len(set(shapes)),
        "grounding_max_iou": _max_iou(boxes),
        "grounding_crossed": sum(crosses_itself(points) for points in polygons),
    }


def _max_iou(boxes: Sequence[g.Box]) -> float | None:
    """The largest overlap of two different boxes that have the same label; null where there are no two boxes."""
    distinct = list(dict.fromkeys(boxes))
    if len(distinct) < 2:
        return None
    codes = {label: code for code, label in enumerate({box.label: None for box in distinct})}
    values = np.array([(box.x1, box.y1, box.x2, box.y2, codes[box.label]) for box in distinct], np.int64)
    return float(max_iou(values))


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def max_iou(boxes: Ints) -> float:
    """The largest intersection over union of two boxes [n, 5] (x1, y1, x2, y2, label) of one label, 0 to 1."""
    best = 0.0
    for i in range(len(boxes)):
        for j in range(i):
            if boxes[i, 4] != boxes[j, 4]:
                continue
            width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
            height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
            if width > 0 and height > 0:
                areas = (boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1])
                areas += (boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1])
                best = max(best, width * height / (areas - width * height))
    return best


def shoelace(points: Ints) -> float:
    """Unsigned area of a polygon [n, 2]."""
    x, y = points[:, 0], points[:, 1]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _turn(a: Ints, b: Ints, c: Ints) -> Any:
    return np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _within(a: Ints, b: Ints, c: Ints) -> Any:
    """Is c, on the line through a and b, between them?"""
    return min(a[0], b[0]) <= c[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= c[1] <= max(a[1], b[1])


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _meet(a: Ints, b: Ints, c: Ints, d: Ints) -> Any:
    """Do the closed segments ab and cd have a point in common?"""
    one, two, three, four = _turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b)
    if one != two and three != four:
        return True
    on_first = (one == 0 and _within(a, b, c)) or (two == 0 and _within(a, b, d))
    return on_first or (three == 0 and _within(c, d, a)) or (four == 0 and _within(c, d, b))


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def crosses_itself(points: Ints) -> bool:
    """Does the ring [n, 2] touch itself anywhere but at the corners that its sides share?"""
    n = len(points)
    for i in range(n):
        a, b = points[i], points[(i + 1) % n]
        if a[0] == b[0] and a[1] == b[1]:
            continue  # a corner written twice
        c = points[(i + 2) % n]
        if n > 2 and _turn(a, b, c) == 0 and (b[0] - a[0]) * (c[0] - b[0]) + (b[1] - a[1]) * (c[1] - b[1]) < 0:
            return True  # the next side runs back over this one
        for j in range(i + 2, n - (i == 0)):
            if _meet(a, b, points[j], points[(j + 1) % n]):
                return True
    return False


def _counts(text: str) -> dict[str, Any]:
    points = sum(isinstance(shape, g.Point) for shape in g.parse(text)[0])
    return {"count_stated": stated_number(text) if points else None, "count_points": points or None}


_TAKEN = re.compile(r"<\|(point|box|polygon|clip_time|object_ref|ocr_text)_start\|>.*?<\|\1_end\|>", re.DOTALL)
# With the units that may follow: 3万 is one number.
_DIGITS = re.compile(r"(?<![\d.,])(\d{1,3}(?:,\d{3})+(?![\d.])|\d{1,9}(?!\d|[.,]\d))([百千万亿]*)")
_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_TEENS = ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"]
_WORDS = {word: number for number, word in enumerate([*_ONES, *_TEENS])}
_ENGLISH = re.compile(rf"\b({'|'.join(_WORDS)})\b")
# A Chinese numeral counts things only before a measure word: 一些 and 一起 hold no number.
# 第三个 is a place in a row and 几十个 no certain number.
_CHINESE = re.compile(
    f"(?<![第几数{numerals.LETTERS}])([{numerals.LETTERS}]{{1,20}})"
    "(?=[个只条张辆本名位件朵棵头匹把座台颗艘架根块片支盏双杯瓶人处枚株幅扇栋])"
)


def stated_number(text: str) -> int | None:
    """The one number that a text states outside its marks: digits, else words; null for none or several."""
    prose = folded_text(_TAKEN.sub(" ", text))
    numbers = {_with_units(digits, units) for digits, units in _DIGITS.findall(prose)}
    if not numbers:
        numbers = {_WORDS[word] for word in _ENGLISH.findall(prose)}
        numbers |= {number for found in _CHINESE.findall(prose) if (number := numerals.parse(found)) is not None}
    return numbers.pop() if len(numbers) == 1 else None


def _with_units(digits: str, units: str) -> int:
    """3万 is 30,000."""
    return math.prod([int(digits.replace(",", "")), *(numerals.UNITS[unit] for unit in units)])
