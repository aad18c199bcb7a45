"""The two kinds of question about a clip: in which order things appear, and when one does."""

import dataclasses
from random import Random

from eval.minibench.form import Drawn, Form
from eval.minibench.pictures import YES_NO
from eval.minibench.scene import COLORS, SHAPES, Scene, Shape, others, places, shape, tint

FPS = 2.0
"""Frames a second, as the data engine samples videos."""

SECONDS = 8
"""Length of every clip: 16 frames, the last at 7.5 s."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A shape that is seen from `start` on, up to `end` (seconds, excluded)."""

    shape: Shape
    start: float
    end: float = float("inf")


def _film(random: Random, cast: list[tuple[str, str]], spans: list[tuple[float, float]]) -> list[Scene]:
    """The scene of each frame: `cast`, (shape, colour) each, where each is seen in its span of seconds."""
    width, height = random.choice([(112, 112), (160, 112), (160, 160), (224, 168)])
    spots = places(random, len(cast), width, height)
    entries = [
        Entry(shape(random, kind, color, spot), *span)
        for (kind, color), spot, span in zip(cast, spots, spans, strict=True)
    ]
    empty = Scene(width, height, tint(random))
    times = [index / FPS for index in range(round(SECONDS * FPS))]
    return [
        dataclasses.replace(empty, things=tuple(one.shape for one in entries if one.start <= time < one.end))
        for time in times
    ]


def _spans(random: Random, num: int) -> list[tuple[float, float]]:
    """When `num` things appear, a second or more apart; all of them stay, or each goes before the next comes."""
    starts = sorted(random.sample(range(1, SECONDS - 1), num))
    stay = random.random() < 0.5
    return [(start, float("inf") if stay else start + random.choice([0.5, 1.0])) for start in starts]


def _in_order(random: Random, kinds: list[str]) -> list[Scene]:
    """Three shapes of different colours that appear in the order given."""
    colors = random.sample(list(COLORS), len(kinds))
    return _film(random, list(zip(kinds, colors, strict=True)), _spans(random, len(kinds)))


def _first(random: Random, answer: str) -> Drawn:
    return {}, _in_order(random, [answer, *others(random, SHAPES, 2, answer)])


def _last(random: Random, answer: str) -> Drawn:
    return {}, _in_order(random, [*others(random, SHAPES, 2, answer), answer])


def _before(random: Random, answer: str) -> Drawn:
    """Two or three shapes; the question names two colours in the order in which they come, or the other way round."""
    num = random.randint(2, 3)
    colors = random.sample(list(COLORS), num)
    film = _film(random, list(zip(random.choices(SHAPES, k=num), colors, strict=True)), _spans(random, num))
    earlier, later = sorted(random.sample(range(num), 2))
    first, second = (earlier, later) if answer == "yes" else (later, earlier)
    return {"first": colors[first], "second": colors[second]}, film


def _appears(random: Random, second: int) -> Drawn:
    """A shape that appears at `second` and stays, among up to two others, there from the start or later."""
    num = random.randint(0, 2)
    colors, kinds = random.sample(list(COLORS), num + 1), [random.choice(SHAPES) for _ in range(num + 1)]
    free = [start for start in range(SECONDS) if start != second]
    spans = [(float(start), float("inf")) for start in (second, *random.sample(free, num))]
    name = f"{colors[0]} {kinds[0]}"
    return {"thing": name}, _film(random, list(zip(kinds, colors, strict=True)), spans)


def _second(random: Random, answer: str) -> Drawn:
    return _appears(random, int(answer))


def _half(random: Random, answer: str) -> Drawn:
    """At least a second away from the middle of the clip."""
    middle = SECONDS // 2
    return _appears(random, random.choice(range(1, middle) if answer == "first" else range(middle + 1, SECONDS)))


ORDER = (
    Form("which shape appears first: circle, rectangle or triangle?", SHAPES, _first),
    Form("which shape appears last: circle, rectangle or triangle?", SHAPES, _last),
    Form("does the {first} shape appear before the {second} shape?", YES_NO, _before),
)
WHEN = (
    Form("at which second does the {thing} appear: 1, 2, 3, 4, 5 or 6?", ("1", "2", "3", "4", "5", "6"), _second),
    Form("in which half of the clip does the {thing} appear: first or second?", ("first", "second"), _half),
)
