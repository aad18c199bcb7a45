"""Draws a page: text over a background, tilted, blurred and noisy within what can be read, with exact places."""

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from data_engine.synthesis import backgrounds, fonts
from data_engine.synthesis.backgrounds import Pixels
from data_engine.synthesis.layouts import Page

Corner = tuple[float, float]
Quad = tuple[Corner, Corner, Corner, Corner]
Matrix = npt.NDArray[np.float64]

MAX_TILT = 5.0
"""Degrees either way; the far side of a page is at most 1/25 shorter."""


@dataclass(frozen=True, slots=True)
class Place:
    """A line's text, and the corners of its ink in pixels: top left, top right, bottom right, bottom left."""

    text: str
    quad: Quad
    role: str


@dataclass(frozen=True, slots=True)
class Picture:
    """The encoded picture with its suffix, its size, and what stands where. `is_upright`: quads are rectangles."""

    data: bytes
    suffix: str
    width: int
    height: int
    places: tuple[Place, ...]
    is_upright: bool


def draw(rng: random.Random, page: Page, kind: str, photos: Sequence[Path], tilt: bool, wear: bool) -> Picture:
    """The page on a background of the kind; `tilt`: turned and seen from aside, `wear`: blurred, noisy, compressed."""
    mask, boxes = _inked(page)
    quads = [_corners(box) for box in boxes]
    matrix = _tilted(rng, page, quads) if tilt else None
    if matrix is not None:
        mask = _warped(mask, matrix)
        quads = [_moved(quad, matrix) for quad in quads]
    back = backgrounds.make(rng, kind, page.width, page.height, photos)
    back, ink = backgrounds.readable(rng, back, [_around(quad, page) for quad in quads])
    image = Image.fromarray(back)
    image.paste(ink, (0, 0), mask)
    smallest = min(line.size for line in page.lines)
    data, suffix = _worn(rng, image, smallest) if wear else kept(image, kind)
    places = tuple(Place(line.text, quad, line.role) for line, quad in zip(page.lines, quads, strict=True))
    return Picture(data, suffix, page.width, page.height, places, matrix is None)


def _inked(page: Page) -> tuple[Image.Image, list[backgrounds.Box]]:
    """The mask of all text and rules, and each line's box of ink: x1, y1, x2, y2, the last two not in it."""
    mask = Image.new("L", (page.width, page.height))
    for rule in page.rules:
        mask.paste(255, rule)
    boxes = []
    for line in page.lines:
        if line.step:
            ink = fonts.vertical_ink(line.face, line.size, line.text, line.step)
        else:
            ink = fonts.ink(line.face, line.size, line.text)
        x, y = line.x + ink.x, line.y + ink.y
        mask.paste(255, (x, y), ink.mask)
        boxes.append((x, y, x + ink.mask.width, y + ink.mask.height))
    return mask, boxes


def _corners(box: backgrounds.Box) -> Quad:
    x1, y1, x2, y2 = box
    return (x1, y1), (x2, y1), (x2, y2), (x1, y2)


def _tilted(rng: random.Random, page: Page, quads: Sequence[Quad]) -> Matrix | None:
    """A turn about the page's middle and a light perspective, as a 3x3 matrix; shrunk until all ink is on the page."""
    angle = np.deg2rad(rng.uniform(-MAX_TILT, MAX_TILT))
    far = rng.uniform(-0.04, 0.04) / page.width, rng.uniform(-0.04, 0.04) / page.height
    for scale in (1.0, 0.95, 0.9, 0.85):
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        centre = np.array([[1, 0, page.width / 2], [0, 1, page.height / 2], [0, 0, 1]])
        matrix: Matrix = centre @ np.array([[cos, -sin, 0], [sin, cos, 0], [*far, 1]]) @ np.linalg.inv(centre)
        points = np.array([corner for quad in quads for corner in _moved(quad, matrix)])
        if (points >= 2).all() and (points <= (page.width - 2, page.height - 2)).all():
            return matrix
    return None


def _moved(quad: Quad, matrix: Matrix) -> Quad:
    points = np.column_stack([np.array(quad, np.float64), np.ones(4)]) @ matrix.T
    a, b, c, d = (points[:, :2] / points[:, 2:]).tolist()
    return (a[0], a[1]), (b[0], b[1]), (c[0], c[1]), (d[0], d[1])


def _warped(mask: Image.Image, matrix: Matrix) -> Image.Image:
    back = np.linalg.inv(matrix)
    return mask.transform(
        mask.size, Image.Transform.PERSPECTIVE, (back / back[2, 2]).ravel()[:8].tolist(), Image.Resampling.BICUBIC
    )


def _around(quad: Quad, page: Page) -> backgrounds.Box:
    xs, ys = zip(*quad, strict=True)
    return (
        max(0, int(min(xs))),
        max(0, int(min(ys))),
        min(page.width, int(max(xs)) + 1),
        min(page.height, int(max(ys)) + 1),
    )


def _worn(rng: random.Random, image: Image.Image, smallest: int) -> tuple[bytes, str]:
    """Blur up to a thirtieth of the smallest letters' size, noise up to 12 levels, JPEG at 60 to 90."""
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, smallest / 30)))
    pixels = np.asarray(image)
    if rng.random() < 0.5:
        noise = np.random.default_rng(rng.getrandbits(64)).standard_normal(pixels.shape[:2], np.float32)
        grain = noise[:, :, None] * np.float32(rng.uniform(2, 12))
        pixels = np.clip(pixels + grain, 0, 255).astype(np.uint8)
    return encoded(pixels, rng.randint(60, 90)), ".jpg"


def kept(image: Image.Image, kind: str) -> tuple[bytes, str]:
    """The encoded picture and its suffix: PNG for flat backgrounds, a fine JPEG for those with grain."""
    return (encoded(np.asarray(image), 92), ".jpg") if kind in {"photo", "paper"} else (png(image), ".png")


def encoded(pixels: Pixels, quality: int) -> bytes:
    """JPEG with all its colour: coloured letters are as sharp as black ones."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
