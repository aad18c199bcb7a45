"""Points, boxes, polygons and clip times as the model writes them (Keye-VL-1.5 report, table 1).

Coordinates are integers in [0, 1000): bin n covers the share [n / 1000, (n + 1) / 1000) of the picture's width or
height. A point, box or polygon may have a label right before it, the name of an object or the text that is read
there. One format only, so that a model learns one: `[[1, 2]]` for points, `[[1, 2, 3, 4]]` for boxes (top left,
bottom right), `[[[1, 2], [3, 4], [5, 6]]]` for polygons (clockwise on the screen), `[0.0, 2.5]` for clips, in seconds.
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from model.visual_tokens import GROUNDING_TOKENS

BINS = 1000

XY = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Label:
    """What a shape is around: an object's name, or the text that stands there."""

    text: str
    kind: Literal["object_ref", "ocr_text"] = "object_ref"


@dataclass(frozen=True, slots=True)
class Point:
    """The centre of something, in bins. Its label can only be an object's name."""

    x: int
    y: int
    label: Label | None = None


@dataclass(frozen=True, slots=True)
class Box:
    """Top left (x1, y1) and bottom right (x2, y2), in bins."""

    x1: int
    y1: int
    x2: int
    y2: int
    label: Label | None = None


@dataclass(frozen=True, slots=True)
class Polygon:
    """Corners in bins, clockwise on the screen (y points down)."""

    points: tuple[XY, ...]
    label: Label | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """A span of a video in seconds, to a tenth, and the words about it that follow on the same line."""

    start: float
    end: float
    caption: str = ""


Shape = Point | Box | Polygon | Clip


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a mark, and at which character of the text it begins."""

    kind: str
    at: int


UNPAIRED = "mark without its other half"
MALFORMED = "malformed coordinates"
OUT_OF_RANGE = "coordinate out of range"
CORNERS = "box corners out of order"
FEW_POINTS = "polygon of fewer than 3 points"
COUNTER_CLOCKWISE = "polygon not clockwise"
TIMES = "clip ends before it starts"
BAD_LABEL = "label not right before its shape"
EMPTY_LABEL = "empty label"


class GroundingError(ValueError):
    """A shape that has no exact form as text; the message says why."""


def normalise(xy: npt.ArrayLike, width: float, height: float) -> npt.NDArray[np.int64]:
    """Pixels [..., 2] (x, y; the left edge of the picture is 0, the right edge `width`) to bins [..., 2].

    floor(x / width * 1000), clipped to 0..999: the right and bottom edges are in the last bin.
    """
    share = np.asarray(xy, np.float64) / np.array([width, height], np.float64)
    # A bin's own edge must fall into the bin: 0.29 * 1000 is 290.0 only after rounding off the last bits.
    return np.clip(np.floor(np.round(share * BINS, 9)), 0, BINS - 1).astype(np.int64)


def denormalise(bins: npt.ArrayLike, width: float, height: float) -> npt.NDArray[np.float64]:
    """Bins [..., 2] to the pixels [..., 2] at the middle of each bin: `normalise` gives the bins back."""
    return (np.asarray(bins, np.float64) + 0.5) / BINS * np.array([width, height], np.float64)


def signed_area(points: Sequence[tuple[float, float]]) -> float:
    """Area of a polygon: positive where its corners go clockwise on the screen (y points down)."""
    return 0.5 * sum(a[0] * b[1] - b[0] * a[1] for a, b in itertools.pairwise([*points, *points[:1]]))


def clockwise(points: Sequence[XY]) -> tuple[XY, ...]:
    """The same polygon from the same first corner, clockwise on the screen."""
    points = tuple(points)
    return points if signed_area(points) >= 0 else (points[0], *points[:0:-1])


def render(shapes: Sequence[Shape]) -> str:
    """Shapes as text. Neighbours of one kind with one label share a mark; polygons are turned clockwise.

    Raises GroundingError for what `parse` would not give back: a coordinate out of range, corners out of order,
    a polygon of fewer than 3 points, a time that is not in tenths, a label that is empty or holds a mark.
    """
    groups = itertools.groupby(shapes, key=lambda shape: (type(shape), getattr(shape, "label", shape)))
    return "".join(_render_group(list(group)) for _, group in groups).removesuffix("\n")


def parse(text: str) -> tuple[list[Shape], list[Fault]]:
    """The sound shapes of a text, in order, and the faults of the others. Never raises.

    A label alone, away from any shape, is no fault: questions name objects that way.
    """
    if "_start|>" not in text and "_end|>" not in text:
        return [], []
    pairs, faults = _pairs(text)
    shapes: list[Shape] = []
    for before, pair in itertools.pairwise([_Pair("", "", -1, -1), *pairs]):
        if pair.kind in _LABELS:
            faults += [] if pair.body.strip() else [Fault(EMPTY_LABEL, pair.start)]
            continue
        found, wrong = _READERS[pair.kind](pair.body)
        label, misplaced = _label(text, before, pair)
        if label and not misplaced:
            found = [replace(shape, label=label) for shape in found]
        if pair.kind == "clip_time":
            found = [replace(shape, caption=_caption(text, pair.end)) for shape in found]
        shapes += found
        faults += [Fault(kind, pair.start) for kind in ([BAD_LABEL] if misplaced else []) + wrong]
    return shapes, sorted(faults, key=lambda fault: fault.at)


@dataclass(frozen=True, slots=True)
class _Pair:
    """A start mark and its end mark: what is between them, and where both begin and end."""

    kind: str
    body: str
    start: int
    end: int


_LABELS = ("object_ref", "ocr_text")
_MARK = re.compile("|".join(map(re.escape, GROUNDING_TOKENS)))


def _pairs(text: str) -> tuple[list[_Pair], list[Fault]]:
    """Marks that follow each other as start and end of one kind; any other mark is a fault."""
    marks = list(_MARK.finditer(text))
    names = [mark[0][2:-2].rsplit("_", 1) for mark in marks]
    pairs, faults, at = [], [], 0
    while at < len(marks):
        first, (kind, half) = marks[at], names[at]
        if half == "start" and names[at + 1 : at + 2] == [[kind, "end"]]:
            last = marks[at + 1]
            pairs.append(_Pair(kind, text[first.end() : last.start()], first.start(), last.end()))
            at += 2
        else:
            faults.append(Fault(UNPAIRED, first.start()))
            at += 1
    return pairs, faults


def _label(text: str, before: _Pair, pair: _Pair) -> tuple[Label | None, bool]:
    """The label of a shape, and whether one is there but cannot be: apart from it, or of the wrong kind."""
    if before.kind not in _LABELS or text[before.end : pair.start].strip():
        return None, False
    fits = pair.kind in {"box", "polygon"} or (pair.kind == "point" and before.kind == "object_ref")
    label = Label(before.body, "object_ref" if before.kind == "object_ref" else "ocr_text")
    return (label if before.body.strip() else None), before.end != pair.start or not fits


def _caption(text: str, end: int) -> str:
    """The words from a clip's mark to the end of the line or to the next mark."""
    line = text[end:].split("\n", 1)[0]
    mark = _MARK.search(line)
    return line[: mark.start() if mark else None].strip()


_N = "(?:0|-?[1-9][0-9]{0,8})"
_PAIR = rf"\[{_N}, {_N}\]"
_BOX = rf"\[{_N}, {_N}, {_N}, {_N}\]"
_RING = rf"\[{_PAIR}(?:, {_PAIR})*\]"
_POINTS, _BOXES, _POLYGONS = (re.compile(rf"\[{one}(?:, {one})*\]") for one in (_PAIR, _BOX, _RING))
_TENTHS = r"(?:0|[1-9][0-9]{0,6})\.[0-9]"
_TIMES = re.compile(rf"\[({_TENTHS}), ({_TENTHS})\]")
_INTEGER = re.compile("-?[0-9]+")
_RINGS = re.compile(_RING)

_Read = tuple[list[Any], list[str]]


def _read_points(body: str) -> _Read:
    return _judged([(Point(x, y), _fault((x, y))) for x, y in _numbers(_POINTS, body, 2)])


def _read_boxes(body: str) -> _Read:
    boxes = _numbers(_BOXES, body, 4)
    return _judged(
        [(Box(x1, y1, x2, y2), _fault((x1, y1, x2, y2)) or _corner_fault(x1, y1, x2, y2)) for x1, y1, x2, y2 in boxes]
    )


def _read_polygons(body: str) -> _Read:
    rings = _RINGS.findall(body) if _POLYGONS.fullmatch(body) else []
    found = []
    for ring in rings:
        values = list(map(int, _INTEGER.findall(ring)))
        points = tuple(zip(values[::2], values[1::2], strict=True))
        found.append((Polygon(points), _fault(values) or _polygon_fault(points)))
    return _judged(found)


def _read_clip(body: str) -> _Read:
    found = _TIMES.fullmatch(body)
    times = [(float(found[1]), float(found[2]))] if found else []
    return _judged([(Clip(start, end), TIMES if end < start else None) for start, end in times])


_READERS: Mapping[str, Callable[[str], _Read]] = {
    "point": _read_points,
    "box": _read_boxes,
    "polygon": _read_polygons,
    "clip_time": _read_clip,
}


def _judged(found: list[tuple[Any, str | None]]) -> _Read:
    """The shapes without a fault, and the faults of the others; no shape at all is a fault as well."""
    faults = [fault for _, fault in found if fault]
    return [shape for shape, fault in found if not fault], faults if found else [MALFORMED]


def _numbers(form: re.Pattern[str], body: str, each: int) -> list[tuple[int, ...]]:
    values = list(map(int, _INTEGER.findall(body))) if form.fullmatch(body) else []
    return [tuple(values[at : at + each]) for at in range(0, len(values), each)]


def _fault(values: Sequence[int]) -> str | None:
    return None if min(values) >= 0 and max(values) < BINS else OUT_OF_RANGE


def _corner_fault(x1: int, y1: int, x2: int, y2: int) -> str | None:
    return None if x1 <= x2 and y1 <= y2 else CORNERS


def _polygon_fault(points: Sequence[XY]) -> str | None:
    if len(points) < 3:
        return FEW_POINTS
    return COUNTER_CLOCKWISE if signed_area(points) < 0 else None


def _render_group(shapes: Sequence[Shape]) -> str:
    """Shapes of one kind with one label as one mark; every clip has a mark and a line of its own."""
    if isinstance(shapes[0], Clip):
        return "".join(_render_clip(clip) for clip in shapes if isinstance(clip, Clip))
    kind = {Point: "point", Box: "box", Polygon: "polygon"}[type(shapes[0])]
    body = str([_coordinates(shape) for shape in shapes])
    return _render_label(shapes[0].label, kind) + f"<|{kind}_start|>{body}<|{kind}_end|>"


def _coordinates(shape: Shape) -> list[Any]:
    """Numbers as they are written. Raises GroundingError for those `parse` would refuse."""
    if isinstance(shape, Polygon):
        points = clockwise(shape.points)
        _require(shape, _polygon_fault(points), [value for point in points for value in point])
        return [[int(x), int(y)] for x, y in points]
    if isinstance(shape, Box):
        box = (shape.x1, shape.y1, shape.x2, shape.y2)
        _require(shape, _corner_fault(*box), box)
        return [int(value) for value in box]
    assert isinstance(shape, Point)
    _require(shape, None, (shape.x, shape.y))
    return [int(shape.x), int(shape.y)]


def _require(shape: Shape, fault: str | None, values: Sequence[int]) -> None:
    if wrong := fault or _fault(values):
        raise GroundingError(f"{shape}: {wrong}")


def _render_label(label: Label | None, kind: str) -> str:
    if label is None:
        return ""
    if not label.text.strip() or _MARK.search(label.text) or (kind == "point" and label.kind == "ocr_text"):
        raise GroundingError(f"{label}: a label of a {kind} must be words without marks")
    return f"<|{label.kind}_start|>{label.text}<|{label.kind}_end|>"


def _render_clip(clip: Clip) -> str:
    mark = f"<|clip_time_start|>[{clip.start:.1f}, {clip.end:.1f}]<|clip_time_end|>"
    text = f"{mark} {clip.caption}" if clip.caption else mark
    if parse(text) != ([clip], []):
        raise GroundingError(f"{clip}: times must be rising tenths of seconds, the caption one line without marks")
    return text + "\n"
