"""The four kinds of question about one picture: shapes and colours, counting, reading, spatial relation."""

import dataclasses
from random import Random

from eval.minibench.form import Drawn, Form
from eval.minibench.scene import COLORS, RGB, SHAPES, Scene, Shape, Text, others, places, shape, tint

YES_NO = ("yes", "no")
DIGITS = ("1", "2", "3", "4", "5", "6")
WORDS = (
    "apple", "arrow", "bread", "bridge", "candle", "castle", "cloud", "copper", "dragon", "eagle", "engine", "farm",
    "flower", "forest", "garden", "ghost", "hammer", "honey", "island", "jacket", "kettle", "ladder", "lemon", "lion",
    "marble", "market", "mirror", "monkey", "needle", "ocean", "orange", "paper", "pencil", "piano", "planet", "rabbit",
    "river", "rocket", "saddle", "school", "silver", "spider", "stone", "table", "tiger", "train", "valley", "violin",
    "window", "winter",
)  # fmt: skip
NUMBERS = tuple(str(number) for number in range(23, 10_000, 199))
DARK: tuple[RGB, ...] = ((20, 20, 20), (120, 20, 30), (20, 70, 35), (25, 40, 130), (90, 30, 110))


def _square(random: Random, side: int, cast: list[tuple[str, str]], max_tilt: float) -> list[Scene]:
    """One square picture of `cast`, (shape, colour) each."""
    spots = places(random, len(cast), side, side)
    things = [
        shape(random, kind, color, spot, max_tilt=max_tilt) for (kind, color), spot in zip(cast, spots, strict=True)
    ]
    return [Scene(side, side, tint(random), tuple(things))]


def _plain(random: Random, cast: list[tuple[str, str]]) -> list[Scene]:
    """Upright shapes, as in easy-vqa, on pictures of 64 to 448 pixels."""
    return _square(random, random.choice([64, 96, 128, 224, 336, 448]), cast, 0.0)


def _color_of_shape(random: Random, answer: str) -> Drawn:
    num = random.randint(0, 2)
    kind, *rest = random.sample(SHAPES, num + 1)
    colors = others(random, list(COLORS), num, answer)
    return {"shape": kind}, _plain(random, [(kind, answer), *zip(rest, colors, strict=True)])


def _only_shape(random: Random, answer: str) -> Drawn:
    return {}, _plain(random, [(answer, random.choice(list(COLORS)))])


def _shape_of_color(random: Random, answer: str) -> Drawn:
    num = random.randint(0, 2)
    color, *rest = random.sample(list(COLORS), num + 1)
    kinds = random.choices(SHAPES, k=num)
    return {"color": color}, _plain(random, [(answer, color), *zip(kinds, rest, strict=True)])


def _has_color(random: Random, answer: str) -> Drawn:
    num = random.randint(1, 3)
    absent, *colors = random.sample(list(COLORS), num + 1)
    cast = list(zip(random.choices(SHAPES, k=num), colors, strict=True))
    return {"color": colors[0] if answer == "yes" else absent}, _plain(random, cast)


def _has_shape(random: Random, answer: str) -> Drawn:
    absent, *kinds = random.sample(SHAPES, random.randint(2, 3))
    cast = list(zip(kinds, others(random, list(COLORS), len(kinds)), strict=True))
    return {"shape": kinds[0] if answer == "yes" else absent}, _plain(random, cast)


def _crowd(random: Random, cast: list[tuple[str, str]]) -> list[Scene]:
    return _square(random, random.choice([160, 224, 320, 448]), cast, 25.0)


def _count_all(random: Random, answer: str) -> Drawn:
    num = int(answer)
    cast = zip(random.choices(SHAPES, k=num), random.choices(list(COLORS), k=num), strict=True)
    return {}, _crowd(random, list(cast))


def _count_shapes(random: Random, answer: str) -> Drawn:
    kind, num = random.choice(SHAPES), random.randint(1, 3)
    kinds = [kind] * int(answer) + random.choices(others(random, SHAPES, 2, kind), k=num)
    return {"shape": kind}, _crowd(random, [(each, random.choice(list(COLORS))) for each in kinds])


def _count_color(random: Random, answer: str) -> Drawn:
    color, num = random.choice(list(COLORS)), random.randint(1, 3)
    colors = [color] * int(answer) + others(random, list(COLORS), num, color)
    return {"color": color}, _crowd(random, [(random.choice(SHAPES), each) for each in colors])


def _reading(random: Random, answer: str) -> Drawn:
    """Words or a number, lower case, upper case or with a capital, dark on light or light on a dark plate."""
    width, height = random.choice([(160, 112), (224, 128), (224, 224), (320, 160)])
    written = random.choice([answer, answer.upper(), answer.capitalize()])
    dark = random.choice(DARK)
    plate = random.choice([None, dark])
    size = round(width * random.uniform(0.7, 1.0) / max(len(answer), 4))
    size = min(size, height // 2)
    x, y = width * random.uniform(0.46, 0.54), height * random.uniform(0.42, 0.58)
    text = Text(written, dark if plate is None else (250, 250, 250), plate, x, y, size, random.uniform(-6, 6))
    return {}, [Scene(width, height, tint(random), (text,))]


def _two(random: Random) -> tuple[Shape, Shape]:
    """Two shapes of different kind and colour, not yet at a place."""
    kinds, colors = random.sample(SHAPES, 2), random.sample(list(COLORS), 2)
    first, second = (
        shape(random, kind, color, (0, 0, random.uniform(0.09, 0.15)))
        for kind, color in zip(kinds, colors, strict=True)
    )
    return first, second


def _beside(random: Random, *, before: bool, upright: bool) -> Drawn:
    """Two shapes well apart along one axis and nearly level on the other; half the time a third one aside.

    In units of the picture's side: centres 0.4 to 0.6 apart along the axis and at most 0.1 across it.
    """
    first, second = _two(random)
    low, level = random.uniform(0.2, 0.25), random.uniform(0.3, 0.7)
    high = low + random.uniform(0.4, 0.55)
    along, across = ((low, high) if before else (high, low)), (level, level + random.uniform(-0.1, 0.1))
    things = [_at(thing, a, b, upright) for thing, a, b in zip((first, second), along, across, strict=True)]
    if random.random() < 0.5:
        color = others(random, list(COLORS), 1, first.color, second.color)[0]
        third = shape(random, others(random, SHAPES, 1, first.kind, second.kind)[0], color, (0, 0, 0.08))
        things.append(_at(third, random.uniform(0.3, 0.7), 0.88 if level < 0.5 else 0.12, upright))
    return {"first": first.name, "second": second.name}, [_sized(random, things)]


def _at(thing: Shape, along: float, across: float, upright: bool) -> Shape:
    x, y = (across, along) if upright else (along, across)
    return dataclasses.replace(thing, x=x, y=y)


def _sized(random: Random, things: list[Shape]) -> Scene:
    """A square picture of shapes given in units of its side."""
    side = random.choice([128, 160, 224, 320, 448])
    scaled = (
        dataclasses.replace(thing, x=thing.x * side, y=thing.y * side, radius=thing.radius * side) for thing in things
    )
    return Scene(side, side, tint(random), tuple(scaled))


def _left_or_right(random: Random, answer: str) -> Drawn:
    return _beside(random, before=answer == "left", upright=False)


def _above_or_below(random: Random, answer: str) -> Drawn:
    return _beside(random, before=answer == "above", upright=True)


def _between(random: Random, answer: str) -> Drawn:
    """Three shapes in a line: across, down or along a diagonal."""
    one, other = others(random, SHAPES, 2, answer)
    colors = random.sample(list(COLORS), 3)
    (dx, dy), offset = random.choice([(1, 0), (0, 1), (1, 1), (1, -1)]), random.uniform(-0.15, 0.15)
    things = []
    for step, kind, color in zip((-1, 0, 1), (one, answer, other), colors, strict=True):
        x = 0.5 + step * 0.33 * dx + (offset if not dx else 0)
        y = 0.5 + step * 0.33 * dy + (offset if not dy else 0)
        things.append(shape(random, kind, color, (x, y, random.uniform(0.09, 0.13))))
    return {}, [_sized(random, things)]


SHAPES_AND_COLORS = (
    Form("what color is the {shape}?", tuple(COLORS), _color_of_shape),
    Form("what shape does the image contain?", SHAPES, _only_shape),
    Form("what is the {color} shape?", SHAPES, _shape_of_color),
    Form("is there a {color} shape?", YES_NO, _has_color),
    Form("is there a {shape} in the image?", YES_NO, _has_shape),
)
COUNTING = (
    Form("how many shapes are there? answer with a digit.", DIGITS, _count_all),
    Form("how many {shape}s are there? answer with a digit.", DIGITS, _count_shapes),
    Form("how many {color} shapes are there? answer with a digit.", DIGITS, _count_color),
)
OCR = (Form("what does the text say?", WORDS + NUMBERS, _reading, is_closed=False),)
SPATIAL = (
    Form("is the {first} left or right of the {second}?", ("left", "right"), _left_or_right),
    Form("is the {first} above or below the {second}?", ("above", "below"), _above_or_below),
    Form("which shape is between the other two: circle, rectangle or triangle?", SHAPES, _between),
)
