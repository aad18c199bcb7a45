"""What an answer is held against: one small model a kind, from plain JSON (`{"kind": "number", "value": "3.5"}`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from data_engine.verify.times import seconds
from strict_yaml import RecipeError, Strict, explain, nearest

XY = tuple[float, float]
Corners = tuple[float, float, float, float]
Coordinates = Literal["pixels", "bins"]
Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[float, Field(gt=0)]
Some = Annotated[str, Field(min_length=1)]


class Exact(Strict):
    """The words `value`, or one of `also`, apart from case (unless `case`), white space, an article
    before them and a closing full stop."""

    kind: Literal["exact"] = "exact"
    value: Some
    also: tuple[Some, ...] = ()
    case: bool = False


class Choice(Strict):
    """One letter of a multiple-choice question; with `options` (letter to text) its text is an answer as well."""

    kind: Literal["choice"] = "choice"
    value: Annotated[str, Field(pattern=r"^[A-Za-z]$")]
    options: dict[Annotated[str, Field(pattern=r"^[A-Za-z]$")], Some] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_an_option(self) -> "Choice":
        if self.options and self.value not in self.options:
            raise ValueError(f"value {self.value!r} is not one of the options {', '.join(self.options)}")
        return self


class Number(Strict):
    """A number, in `unit` where it has one. Right within `rel_tol` of it, within `abs_tol` (of the truth's unit), or
    where both agree to `digits` significant digits. An answer without a unit is taken to be in the truth's own, unless
    `unit_required`.
    """

    kind: Literal["number"] = "number"
    value: str
    unit: str = ""
    rel_tol: Annotated[float, Field(ge=0)] = 1e-9
    abs_tol: Annotated[float, Field(ge=0)] = 0.0
    digits: Annotated[int, Field(ge=1)] | None = None
    unit_required: bool = False

    @field_validator("value", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _can_be_read(self) -> "Number":
        from data_engine.verify import numbers

        if numbers.parse(f"{self.value} {self.unit}".strip()) is None:
            raise ValueError(f"value {self.value!r} is no single number" + f" in {self.unit!r}" * bool(self.unit))
        return self


class Formula(Strict):
    """A formula in LaTeX or plain, right in any equivalent form (math-verify, in a process of its own)."""

    kind: Literal["formula"] = "formula"
    value: Some
    also: tuple[Some, ...] = ()


class Fuzzy(Strict):
    """Words of which `min_ratio` must agree: 2L/T, L the longest common subsequence and T all characters."""

    kind: Literal["fuzzy"] = "fuzzy"
    value: Some
    also: tuple[Some, ...] = ()
    min_ratio: Share = 0.9


class Semantic(Strict):
    """Words of one meaning: the cosine of their vectors by the checkpoint folder `model` is at least `min_cosine`."""

    kind: Literal["semantic"] = "semantic"
    value: Some
    also: tuple[Some, ...] = ()
    model: Some
    min_cosine: Annotated[float, Field(ge=-1, le=1)] = 0.8


class Count(Strict):
    """How many there are. Points that the answer marks must be as many as it says."""

    kind: Literal["count"] = "count"
    value: Annotated[int, Field(ge=0)]


class _Placed(Strict):
    """`coordinates` of the truth; the answer's are the same unless `answer_in` says so. Keyeforge's own marks
    (`<|box_start|>`) are in bins of [0, 1000) always. `size` (width, height in pixels) is needed to go between them.
    """

    coordinates: Coordinates = "pixels"
    answer_in: Coordinates | None = None
    size: tuple[Size, Size] | None = None

    @model_validator(mode="after")
    def _size_is_known(self) -> "_Placed":
        if self.answer_in not in {None, self.coordinates} and self.size is None:
            raise ValueError("size: [width, height] in pixels is needed where answer_in and coordinates differ")
        return self


def _ordered(box: Corners) -> Corners:
    if not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError(f"box {list(box)} has no area: give [left, top, right, bottom]")
    return box


class Box(_Placed):
    """Boxes [left, top, right, bottom] in any order: each has a box of the answer of its own, with at least `min_iou`
    of overlap (intersection over union), and the answer has no others.
    """

    kind: Literal["box"] = "box"
    boxes: Annotated[tuple[Corners, ...], Field(min_length=1)]
    min_iou: Annotated[float, Field(gt=0, le=1)] = 0.5

    @field_validator("boxes")
    @classmethod
    def _have_area(cls, boxes: tuple[Corners, ...]) -> tuple[Corners, ...]:
        return tuple(map(_ordered, boxes))


class Point(_Placed):
    """One point within a `box` or a `polygon`, whose edges belong to it."""

    kind: Literal["point"] = "point"
    box: Corners | None = None
    polygon: Annotated[tuple[XY, ...], Field(min_length=3)] | None = None

    @model_validator(mode="after")
    def _one_region(self) -> "Point":
        if (self.box is None) == (self.polygon is None):
            raise ValueError("give one of box: [left, top, right, bottom] and polygon: [[x, y], ...]")
        if self.box is not None:
            _ordered(self.box)
        return self


class Ocr(Strict):
    """Text as it stands in a picture: an edit distance of at most `max_distance` (Levenshtein by the longer text's
    length), after NFKC, white space folded; `case: false` and `spaces: false` leave those out of it.
    """

    kind: Literal["ocr"] = "ocr"
    value: Some
    max_distance: Share = 0.0
    case: bool = True
    spaces: bool = True


class Chart(Strict):
    """What a chart says: numbers within `rel_tol` (ChartQA's relaxed accuracy), else the words. A list in any order."""

    kind: Literal["chart"] = "chart"
    value: str | tuple[str, ...]
    rel_tol: Annotated[float, Field(ge=0)] = 0.05

    @field_validator("value", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return tuple(map(str, value))
        return str(value) if isinstance(value, int | float) else value


class Span(Strict):
    """A span of time: seconds or `mm:ss`, `hh:mm:ss`; right from `min_iou` of overlap."""

    kind: Literal["span"] = "span"
    start: float
    end: float
    min_iou: Annotated[float, Field(gt=0, le=1)] = 0.5

    @field_validator("start", "end", mode="before")
    @classmethod
    def _clock(cls, value: Any) -> Any:
        return seconds(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _rises(self) -> "Span":
        if not 0 <= self.start < self.end:
            raise ValueError(f"span {self.start:g} to {self.end:g} does not rise")
        return self


Truth = Annotated[
    Exact | Choice | Number | Formula | Fuzzy | Semantic | Count | Box | Point | Ocr | Chart | Span,
    Field(discriminator="kind"),
]
KINDS: Mapping[str, type[Strict]] = {
    str(model.model_fields["kind"].default): model for model in get_args(get_args(Truth)[0])
}


def truth_from(data: Mapping[str, Any], where: str = "truth") -> "Truth":
    """A truth of its plain JSON. Raises RecipeError naming `where`, the field and the fix."""
    kind = data.get("kind")
    if not isinstance(kind, str):
        raise RecipeError(f"{where}: kind: one of {', '.join(KINDS)}")
    nearest(f"{where}: kind", kind, list(KINDS))
    model = KINDS[kind]
    try:
        found: Truth = model.model_validate(data)  # type: ignore[assignment]
    except ValidationError as error:
        raise RecipeError("\n".join(explain(Path(where), model, fault) for fault in error.errors())) from error
    return found
