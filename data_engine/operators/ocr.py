"""Operators on text read from images: does an independent reader agree, and can its boxes be right?

Readings are one line and one box (x1, y1, x2, y2 in pixels) per line of text; where there is no reading, or none with
boxes, measures are null and nothing is dropped.
"""

import difflib
import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_engine.describe import owners
from data_engine.media import MediaStore, decode_image
from data_engine.models import tesseract
from data_engine.operators.base import Operator, reasons

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class OcrAgreement(Operator):
    """Drops an image whose label an independent OCR engine does not confirm.

    The measure is 2M/T of the two strings without white space (M matching characters, T all), 0 to 1.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("ocr_agreement",)
    min_agreement: float = 0.7

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        pairs = zip(batch["target"].to_pylist(), batch["ocr_text"].to_pylist(), strict=True)
        return {"ocr_agreement": pa.array([agreement(label, read) for label, read in pairs], pa.float64())}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.less(measures["ocr_agreement"], self.min_agreement), "OCR does not confirm label"))


class OcrConfidence(Operator):
    """Drops an image whose text the recogniser read with low mean confidence, 0 to 1."""

    looks_at: ClassVar[tuple[str, ...]] = ("ocr_score",)
    min_score: float = 0.8

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.less(measures["ocr_score"], self.min_score), "OCR not confident"))


class OcrBoxes(Operator):
    """Drops readings with a text box outside the picture, too thin, or of a shape its text cannot have.

    `ocr_box_misfit` is how many times longer or shorter a line's box is than its characters would be side by side
    (a Han character is as wide as high, others half that; vertical lines count by their height): the median of a
    sample's lines of two characters or more, 1 at best.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("ocr_box_outside", "ocr_box_min_side", "ocr_box_misfit")
    max_outside: float = 2.0
    min_side: float = 3.0
    max_misfit: float = 3.0

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        boxes, row = _boxes(batch["ocr_boxes"])
        size = np.stack([_float(batch[side]) for side in ("width", "height")], axis=1)[row]
        beyond = np.maximum(-boxes[:, :2].min(axis=1), (boxes[:, 2:] - size).max(axis=1))
        sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
        return {
            "ocr_box_outside": _per_row(np.maximum, np.maximum(beyond, 0.0), row, len(batch)),
            "ocr_box_min_side": _per_row(np.minimum, sides, row, len(batch)),
            "ocr_box_misfit": _misfit(batch["ocr_text"], boxes, row),
        }

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons(
            (pc.greater(measures["ocr_box_outside"], self.max_outside), "text box outside the picture"),
            (pc.less(measures["ocr_box_min_side"], self.min_side), "text box too thin"),
            (pc.greater(measures["ocr_box_misfit"], self.max_misfit), "text does not fit its box"),
        )


Script = Literal["latin", "han", "kana", "hangul", "cyrillic", "greek", "arabic", "hebrew", "thai", "devanagari"]
SCRIPTS: dict[Script, str] = {
    "latin": r"\p{Latin}",
    "han": r"\p{Han}",
    "kana": r"[\p{Hiragana}\p{Katakana}]",
    "hangul": r"\p{Hangul}",
    "cyrillic": r"\p{Cyrillic}",
    "greek": r"\p{Greek}",
    "arabic": r"\p{Arabic}",
    "hebrew": r"\p{Hebrew}",
    "thai": r"\p{Thai}",
    "devanagari": r"\p{Devanagari}",
}


class OcrScript(Operator):
    """Drops pictures whose text is in none of the wanted scripts, or whose label is in another script than it.

    A text's script is that of most of its letters; without letters it has none and breaks no rule.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("ocr_script", "target_script")
    scripts: tuple[Script, ...] = ()

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        return {"ocr_script": script(batch["ocr_text"]), "target_script": script(batch["target"])}

    def decide(self, measures: pa.Table) -> pa.Array:
        seen, label = measures["ocr_script"], measures["target_script"]
        wanted = pc.is_in(seen, value_set=pa.array(self.scripts or tuple(SCRIPTS)))
        return reasons(
            (pc.and_(pc.is_valid(seen), pc.invert(wanted)), "script not wanted"),
            (pc.not_equal(seen, label), "label in another script than the picture"),
        )


class OcrOrder(Operator):
    """Drops labels whose lines are not in reading order.

    The measure is Kendall's tau, -1 to 1, of the order in which the label has the lines that were read against the
    order of their boxes: top to bottom and, side by side, left to right; or column by column, whichever agrees more.
    Columns from right to left, as in vertical Chinese, are not known to it. Null below three lines found in the label.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("ocr_order",)
    min_order: float = 0.8

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        columns = (batch[name].to_pylist() for name in ("target", "ocr_text", "ocr_boxes"))
        return {"ocr_order": pa.array([_order(*row) for row in zip(*columns, strict=True)], pa.float64())}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.less(measures["ocr_order"], self.min_order), "label not in reading order"))


class OcrDensity(Operator):
    """Keeps pictures with some, and not too much, text: the share of the picture under text boxes, and characters.

    Density is in characters per megapixel, white space aside.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("ocr_covered", "ocr_density")
    min_covered: float = 0.0
    max_covered: float = 1.0
    min_density: float = 0.0
    max_density: float = math.inf

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        boxes, row = _boxes(batch["ocr_boxes"])
        width, height = _float(batch["width"]), _float(batch["height"])
        inside = np.stack([boxes[:, i].clip(0, (width, height)[i % 2][row]) for i in range(4)], axis=1)
        known = batch["ocr_boxes"].is_valid().to_numpy()
        area = np.where(known, union_area(inside, np.searchsorted(row, np.arange(len(batch) + 1))), np.nan)
        letters = _float(pc.count_substring_regex(batch["ocr_text"], r"\S"))
        return {
            "ocr_covered": _null_if_nan(area / (width * height)),
            "ocr_density": _null_if_nan(letters / (width * height) * 1e6),
        }

    def decide(self, measures: pa.Table) -> pa.Array:
        covered, density = measures["ocr_covered"], measures["ocr_density"]
        return reasons(
            (pc.less(covered, self.min_covered), "too little text"),
            (pc.greater(covered, self.max_covered), "too much text"),
            (pc.less(density, self.min_density), "too few characters"),
            (pc.greater(density, self.max_density), "too many characters"),
        )


class OcrEngines(Operator):
    """Drops an image that two independent OCR engines (PP-OCR and Tesseract) read differently.

    The measure is 2L/T of the readings without white space and case (L longest common subsequence, T all
    characters), 0 to 1, of the first picture. Tesseract and its languages must be installed.
    """

    needs_media: ClassVar[bool] = True
    looks_at: ClassVar[tuple[str, ...]] = ("engine_agreement",)
    measured_by: ClassVar[tuple[str, ...]] = ("languages",)
    languages: tuple[str, ...] = ("eng", "chi_sim")
    min_agreement: float = 0.5

    def require(self) -> None:
        tesseract.require(self.languages)

    def measure_media(self, batch: pa.Table, store: MediaStore) -> dict[str, pa.Array]:
        pairs = zip(batch["ocr_text"].to_pylist(), batch["pictures"].to_pylist(), strict=True)
        found = [self._agreement(read, pictures, store) for read, pictures in pairs]
        return {"engine_agreement": pa.array(found, pa.float64())}

    def _agreement(self, read: str | None, pictures: list[dict[str, str]] | None, store: MediaStore) -> float | None:
        if read is None or not pictures or pictures[0] is None or pictures[0]["kind"] != "image":
            return None
        from rapidfuzz.distance import Indel

        pixels = decode_image(store.read(pictures[0]["key"]))
        return float(Indel.normalized_similarity(_bare(read), _bare(tesseract.read_text(pixels, self.languages))))

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.less(measures["engine_agreement"], self.min_agreement), "OCR engines disagree"))


def agreement(label: str | None, read: str | None) -> float | None:
    """Character agreement, blind to white space and case; None where there is nothing to compare."""
    if label is None or read is None:
        return None
    return difflib.SequenceMatcher(None, _bare(label), _bare(read), autojunk=False).ratio()


def _bare(text: str) -> str:
    return "".join(text.split()).casefold()


def script(text: pa.ChunkedArray) -> pa.Array:
    """Per text the script of most of its letters; null without letters."""
    counts = [pc.fill_null(pc.count_substring_regex(text, pattern), 0).to_numpy() for pattern in SCRIPTS.values()]
    most = np.argmax(counts, axis=0)
    return pa.array(np.array(list(SCRIPTS))[most], pa.string(), mask=np.max(counts, axis=0) == 0)


def _boxes(column: pa.ChunkedArray) -> tuple[Floats, Ints]:
    """All boxes [n, 4] and the row that each is of."""
    column = column.combine_chunks()
    flat = column.flatten().flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
    return flat.reshape(-1, 4), owners(column)


def _float(column: pa.ChunkedArray) -> Floats:
    values: Floats = pc.cast(column, pa.float64()).to_numpy().astype(np.float64)  # null becomes nan
    return values


def _null_if_nan(values: Floats) -> pa.Array:
    return pa.array(values, pa.float64(), from_pandas=True)


def _per_row(best: "np.ufunc", values: Floats, row: Ints, num_rows: int) -> pa.Array:
    """The largest or the smallest value of each row; null where it has none."""
    found = np.full(num_rows, np.nan)
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    if len(starts):
        found[row[starts]] = best.reduceat(values, starts)
    return _null_if_nan(found)


def _misfit(text: pa.ChunkedArray, boxes: Floats, row: Ints) -> pa.Array:
    lines = pc.split_pattern(text, "\n").combine_chunks()
    line_row, words = owners(lines), lines.flatten()
    agree = np.bincount(line_row, minlength=len(text)) == np.bincount(row, minlength=len(text))
    letters = _float(pc.count_substring_regex(words, r"\S"))
    wide = _float(pc.count_substring_regex(words, r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\x{FF01}-\x{FF60}]"))
    letters, wide = letters[agree[line_row]], wide[agree[line_row]]
    boxes, row = boxes[agree[row]], row[agree[row]]
    sides = np.sort(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-9), axis=1)
    with np.errstate(divide="ignore"):
        ratio = np.abs(np.log(sides[:, 1] / sides[:, 0] / (0.5 * (letters + wide))))
    judged = letters >= 2
    return _null_if_nan(np.exp(medians(ratio[judged], row[judged], len(text))))


def medians(values: Floats, row: Ints, num_rows: int) -> Floats:
    """The median of each row's values, which lie in rising order of row; nan where there are none."""
    order = np.lexsort((values, row))
    ordered = values[order]
    count = np.bincount(row, minlength=num_rows)
    start = np.cumsum(count) - count
    found = np.full(num_rows, np.nan)
    has = count > 0
    low, high = (start + (count - 1) // 2)[has], (start + count // 2)[has]
    found[has] = (ordered[low] + ordered[high]) / 2
    return found


def _order(target: str | None, read: str | None, boxes: Sequence[Sequence[float]] | None) -> float | None:
    """Kendall's tau of one sample: see OcrOrder."""
    lines = (read or "").split("\n")
    if not target or not boxes or len(lines) != len(boxes):
        return None
    label, places, found = _bare(target), [], []
    taken: dict[str, int] = {}
    for line, box in zip(map(_bare, lines), boxes, strict=True):
        at = label.find(line, taken.get(line, 0)) if line else -1
        if at >= 0:
            taken[line] = at + len(line)
            places.append(at)
            found.append(box)
    return float(kendall(np.array(places), np.array(found, np.float64))) if len(found) >= 3 else None


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def kendall(places: Ints, boxes: Floats) -> float:
    """Kendall's tau of `places` [n] against rows first, and against columns first: the larger. n is at least 2."""
    rows = columns = 0
    n = len(places)
    for i in range(n):
        for j in range(i):
            sign = 1 if places[i] > places[j] else -1
            rows += sign * _after(boxes[i], boxes[j], 1, 0)
            columns += sign * _after(boxes[i], boxes[j], 0, 1)
    return max(rows, columns) / (n * (n - 1) / 2)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _after(a: Floats, b: Floats, first: int, second: int) -> int:
    """1 if box a comes after b along axis `first`; where they share more than half of it, along `second`; else -1."""
    shared = min(a[first + 2], b[first + 2]) - max(a[first], b[first])
    shorter = min(a[first + 2] - a[first], b[first + 2] - b[first])
    axis = second if shared > 0.5 * shorter else first
    return 1 if a[axis] + a[axis + 2] >= b[axis] + b[axis + 2] else -1


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def union_area(boxes: Floats, offsets: Ints) -> Floats:
    """Area covered by the boxes [n, 4] offsets[i]:offsets[i + 1], for every i: strips between neighbouring edges."""
    areas = np.zeros(len(offsets) - 1)
    for row in range(len(areas)):
        own = boxes[offsets[row] : offsets[row + 1]]
        own = own[np.argsort(own[:, 0])]
        edges = np.unique(np.concatenate((own[:, 1], own[:, 3])))
        for i in range(len(edges) - 1):
            reach = -np.inf
            covered = 0.0
            for box in own:
                if box[1] <= edges[i] and box[3] >= edges[i + 1] and box[2] > reach:
                    covered += box[2] - max(box[0], reach)
                    reach = box[2]
            areas[row] += covered * (edges[i + 1] - edges[i])
    return areas
