"""What a picture shows, as plain data, and how it is drawn."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

RGB = tuple[int, int, int]
Pixels = npt.NDArray[np.uint8]

SHAPES = ("circle", "rectangle", "triangle")
COLORS: dict[str, RGB] = {
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "teal": (0, 128, 128),
    "brown": (165, 42, 42),
}
"""easy-vqa's eight colours by their CSS values: a model trained on it knows these words."""

SHADE = 12
"""A thing's colour differs from the pure one by up to so many of 255 levels in each channel."""

OVERSAMPLING = 4
"""Everything is drawn this much larger and averaged down: smooth edges, and flat areas stay exact."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape inside the circle of `radius` pixels around (`x`, `y`), turned by `tilt` degrees.

    `aspect` is the angle in degrees from a rectangle's centre to its corner: 45 is a square.
    """

    kind: str
    color: str
    rgb: RGB
    x: float
    y: float
    radius: float
    tilt: float = 0.0
    aspect: float = 30.0

    @property
    def name(self) -> str:
        return f"{self.color} {self.kind}"


@dataclass(frozen=True, slots=True)
class Text:
    """Words around (`x`, `y`), turned by `tilt` degrees, `size` pixels high, on a `plate` or on the bare background."""

    words: str
    rgb: RGB
    plate: RGB | None
    x: float
    y: float
    size: int
    tilt: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture of `width` x `height` pixels: shapes and text, none over another, on one light tint."""

    width: int
    height: int
    background: RGB
    things: tuple[Shape | Text, ...] = ()


def draw(scene: Scene) -> Pixels:
    """The scene as RGB pixels [height, width, 3]."""
    size = (scene.width * OVERSAMPLING, scene.height * OVERSAMPLING)
    canvas = Image.new("RGB", size, scene.background)
    for thing in scene.things:
        if isinstance(thing, Text):
            _draw_text(canvas, thing)
        elif thing.kind == "circle":
            ImageDraw.Draw(canvas).ellipse(_scaled([(-1.0, -1.0), (1.0, 1.0)], thing), fill=thing.rgb)
        else:
            ImageDraw.Draw(canvas).polygon(_scaled(corners(thing), thing), fill=thing.rgb)
    return np.asarray(canvas.reduce(OVERSAMPLING))


def corners(shape: Shape) -> list[tuple[float, float]]:
    """Corners of a rectangle or triangle on the unit circle."""
    flat = shape.aspect
    angles = (-90.0, 30.0, 150.0) if shape.kind == "triangle" else (flat, 180 - flat, 180 + flat, -flat)
    turned = [math.radians(angle + shape.tilt) for angle in angles]
    return [(math.cos(angle), math.sin(angle)) for angle in turned]


def _scaled(points: Sequence[tuple[float, float]], shape: Shape) -> list[tuple[float, float]]:
    """Points of the unit circle in the oversampled picture."""
    return [
        ((shape.x + x * shape.radius) * OVERSAMPLING, (shape.y + y * shape.radius) * OVERSAMPLING) for x, y in points
    ]


def _draw_text(canvas: Image.Image, text: Text) -> None:
    """Pillow's own bundled font: the same letters on every machine."""
    font = ImageFont.load_default(text.size * OVERSAMPLING)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text.words))
    pad = text.size * OVERSAMPLING // 3
    layer = Image.new("RGBA", (right - left + 2 * pad, bottom - top + 2 * pad), (*(text.plate or text.rgb), 0))
    brush = ImageDraw.Draw(layer)
    if text.plate is not None:
        brush.rounded_rectangle((0, 0, layer.width - 1, layer.height - 1), pad / 2, fill=text.plate)
    brush.text((pad - left, pad - top), text.words, fill=text.rgb, font=font)
    turned = layer.rotate(text.tilt, Image.Resampling.BICUBIC, expand=True)
    corner = (round(text.x * OVERSAMPLING - turned.width / 2), round(text.y * OVERSAMPLING - turned.height / 2))
    canvas.paste(turned, corner, turned)


def png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def shade(random: Random, color: str) -> RGB:
    """A colour near the pure one."""
    red, green, blue = (min(255, max(0, level + random.randint(-SHADE, SHADE))) for level in COLORS[color])
    return red, green, blue


def tint(random: Random) -> RGB:
    """A background near white."""
    return random.randint(230, 255), random.randint(230, 255), random.randint(230, 255)


def places(random: Random, num: int, width: int, height: int) -> list[tuple[float, float, float]]:
    """Centres and radii of `num` (at most 16) shapes that keep clear of each other and of the edges.

    Each lies in a cell of its own of the coarsest square grid with room for all: circles of these centres and
    radii are at least 12 % of a cell's shorter side apart.
    """
    side = math.ceil(math.sqrt(num))
    cells = random.sample([(row, column) for row in range(side) for column in range(side)], num)
    cell = min(width, height) / side
    found = []
    for row, column in cells:
        radius = cell * random.uniform(0.24, 0.4)
        free_x, free_y = width / side / 2 - radius - 0.06 * cell, height / side / 2 - radius - 0.06 * cell
        x = (column + 0.5) * width / side + random.uniform(-free_x, free_x)
        y = (row + 0.5) * height / side + random.uniform(-free_y, free_y)
        found.append((x, y, radius))
    return found


def shape(random: Random, kind: str, color: str, place: tuple[float, float, float], *, max_tilt: float = 25.0) -> Shape:
    """A shape of that kind and colour at a place, its shade, proportions and tilt drawn."""
    tilt = random.uniform(-max_tilt, max_tilt)
    aspect = random.choice([random.uniform(22, 40), random.uniform(50, 68)])
    return Shape(kind, color, shade(random, color), *place, tilt=tilt, aspect=aspect)


def others(random: Random, choices: Sequence[str], num: int, *without: str) -> list[str]:
    """`num` different ones of `choices` that are not `without`."""
    return random.sample([choice for choice in choices if choice not in without], num)
