"""What text stands on: plain colours, gradients, paper, and cuts of photographs; and inks that can be read there."""

import functools
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from data_engine.media import MediaError, open_image, shrink
from data_engine.sources.common import IMAGE_SUFFIXES
from strict_yaml import RecipeError

Pixels = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]
Colour = tuple[int, int, int]

MIN_CONTRAST = 4.5
"""WCAG 2.2, success criterion 1.4.3: what text of any size needs to be read."""
PHOTO_SIDE = 1280
_INKS: tuple[Colour, ...] = (
    *((0, 0, 0), (255, 255, 255), (20, 30, 90), (140, 10, 20), (10, 80, 40), (250, 220, 60), (255, 245, 220)),
    *((60, 20, 70), (30, 30, 30), (0, 70, 120), (230, 250, 255), (255, 190, 200), (90, 50, 10)),
)


def photos(folder: Path) -> tuple[Path, ...]:
    """The pictures of a folder. Raises RecipeError where there is none."""
    found = (
        sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES) if folder.is_dir() else []
    )
    if not found:
        raise RecipeError(f"{folder}: no folder with pictures; correct the option `backgrounds` or leave it out")
    return tuple(found)


def make(rng: random.Random, kind: str, width: int, height: int, pictures: Sequence[Path]) -> Pixels:
    """A background [height, width, 3] of one of the kinds `plain`, `gradient`, `paper`, `photo`."""
    if kind == "photo":
        return _photo(rng, width, height, rng.choice(pictures))
    if kind == "plain":
        return np.full((height, width, 3), _colour(rng), np.uint8)
    return _gradient(rng, width, height) if kind == "gradient" else _paper(rng, width, height)


def _colour(rng: random.Random) -> Colour:
    """Light or dark, seldom between: what signs and slides have."""
    low, high = rng.choice([(200, 256), (225, 256), (0, 60), (0, 256)])
    return rng.randrange(low, high), rng.randrange(low, high), rng.randrange(low, high)


def _gradient(rng: random.Random, width: int, height: int) -> Pixels:
    """Between two colours of one lightness, along any direction."""
    first = np.array(_colour(rng), np.float32)
    second = np.clip(first + [rng.uniform(-60, 60) for _ in range(3)], 0, 255)
    across, down = rng.uniform(-1, 1), rng.uniform(-1, 1)
    # Made at a quarter of the size and enlarged: a sixth of the time.
    steps, rows = (np.linspace(0, 1, max(2, side // 4), dtype=np.float32) for side in (width, height))
    ramp = across * steps + down * rows[:, None]
    span = float(np.ptp(ramp)) or 1.0
    share = ((ramp - ramp.min()) / span)[:, :, None]
    small = (first * (1 - share) + second * share).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def _paper(rng: random.Random, width: int, height: int) -> Pixels:
    """A warm white with fibres (noise of two sizes) and a shade towards one edge."""
    tone = np.array([rng.randint(228, 250), rng.randint(222, 244), rng.randint(205, 236)], np.float32)
    noise = np.random.default_rng(rng.getrandbits(64))
    fine = noise.standard_normal((height, width), np.float32) * rng.uniform(1, 3)
    small = noise.standard_normal((max(2, height // 12), max(2, width // 30)), np.float32)
    coarse = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)) * rng.uniform(1, 4)
    shade = np.linspace(rng.uniform(-14, 0), rng.uniform(-14, 0), width, dtype=np.float32)
    return np.clip(tone + (fine + coarse + shade)[:, :, None], 0, 255).astype(np.uint8)


def _photo(rng: random.Random, width: int, height: int, path: Path) -> Pixels:
    """A cut of the photograph of the asked shape, at most enlarged to twice its pixels."""
    pixels = _decoded(str(path), path.stat().st_mtime_ns)
    most = min(pixels.shape[1] / width, pixels.shape[0] / height)
    scale = rng.uniform(min(0.5, most), most)
    w, h = max(1, int(width * scale)), max(1, int(height * scale))
    x, y = rng.randint(0, pixels.shape[1] - w), rng.randint(0, pixels.shape[0] - h)
    cut = Image.fromarray(pixels[y : y + h, x : x + w])
    return np.asarray(cut.resize((width, height), Image.Resampling.BILINEAR))


@functools.lru_cache(maxsize=32)
def _decoded(path: str, modified: int) -> Pixels:  # noqa: ARG001 - key of the cache
    try:
        image = open_image(Path(path).read_bytes())
        image.draft("RGB", (PHOTO_SIDE, PHOTO_SIDE))  # a JPEG's own scaling: a third of the time
        return shrink(np.asarray(image.convert("RGB")), PHOTO_SIDE)
    except (MediaError, OSError) as error:
        raise RecipeError(f"{path}: cannot be a background: {error}; remove it from the folder") from error


@functools.cache
def _linear() -> npt.NDArray[np.float32]:
    """sRGB levels 0..255 to linear light."""
    level = np.arange(256) / 255
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4).astype(np.float32)


def luminance(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Relative luminance [...] of sRGB pixels [..., 3] (WCAG 2.2)."""
    red, green, blue = np.moveaxis(_linear()[pixels], -1, 0)
    light: npt.NDArray[np.float32] = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return light


def contrast(one: float, other: float) -> float:
    """The contrast ratio of two luminances, 1 to 21."""
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def _extremes(pixels: Pixels, boxes: Sequence[Box]) -> list[tuple[float, float]]:
    found = []
    for x1, y1, x2, y2 in boxes:
        light = luminance(pixels[y1:y2:2, x1:x2:2])
        low, high = np.percentile(light, (1, 99)) if light.size else (0.0, 1.0)
        found.append((float(low), float(high)))
    return found


def _against(extremes: list[tuple[float, float]], ink: Colour) -> float:
    own = float(luminance(np.array(ink, np.uint8)))
    inside = any(low <= own <= high for low, high in extremes)
    return 1.0 if inside else min(contrast(own, level) for pair in extremes for level in pair)


def readable(rng: random.Random, pixels: Pixels, boxes: Sequence[Box]) -> tuple[Pixels, Colour]:
    """An ink with `MIN_CONTRAST` in all boxes; where no ink has it, the background is veiled until one does."""
    for veil in (0.0, 0.5, 0.75, 0.9):
        shown = _veiled(pixels, boxes, veil, rng.choice((0, 255))) if veil else pixels
        extremes = _extremes(shown, boxes)
        good = [ink for ink in _INKS if _against(extremes, ink) >= MIN_CONTRAST]
        if good:
            return shown, rng.choice(good)
    raise AssertionError("black or white can be read on a veil of nine tenths")


def _veiled(pixels: Pixels, boxes: Sequence[Box], share: float, shade: int) -> Pixels:
    """A plate of one shade behind all the text, as signs on photographs have."""
    shown = pixels.copy()
    x1, y1 = min(box[0] for box in boxes), min(box[1] for box in boxes)
    x2, y2 = max(box[2] for box in boxes), max(box[3] for box in boxes)
    pad = max(4, (y2 - y1) // 20)
    plate = (slice(max(0, y1 - pad), y2 + pad), slice(max(0, x1 - pad), x2 + pad))
    shown[plate] = (shown[plate] * np.float32(1 - share) + np.float32(shade * share)).astype(np.uint8)
    return shown
