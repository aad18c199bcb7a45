"""Fonts from a recipe's own folder: which characters each can draw, and the ink of a line of text.

Pillow's basic layout is used throughout: what is drawn does not depend on whether a machine has libraqm. A character
that a font lacks, or draws as nothing, is never drawn: `Face.covers` is asked first.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

from fontTools.ttLib import TTCollection, TTFont, TTLibError
from PIL import Image, ImageDraw, ImageFont

from strict_yaml import RecipeError

SUFFIXES = frozenset({".ttf", ".ttc", ".otf"})
COLOUR_SIZE = 109
"""Pixels: the one size that fonts of colour bitmaps (Noto Color Emoji) have."""


@dataclass(frozen=True, slots=True)
class Face:
    """A font file: its path, the code points of its character map, whether its glyphs bring their own colours."""

    path: str
    covered: frozenset[int]
    colour: bool
    family: str

    def covers(self, text: str) -> bool:
        """Whether every character has a glyph with ink; spaces need none."""
        return all(_is_drawn(self.path, self.colour, char) if ord(char) in self.covered else False for char in text)

    def __hash__(self) -> int:
        return hash(self.path)


def faces(folder: Path) -> tuple[Face, ...]:
    """The fonts below a folder, in order of their names. Raises RecipeError where there is none or one is damaged."""
    if not folder.is_dir():
        raise RecipeError(f"{folder}: no such file or folder (of fonts); correct the option `fonts` or fetch them")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise RecipeError(f"{folder}: holds no font ({', '.join(sorted(SUFFIXES))})")
    return tuple(_face(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in found)


@functools.lru_cache(maxsize=256)
def _face(path: str, size: int, modified: int) -> Face:  # noqa: ARG001 - keys of the cache
    """Of a collection its first font."""
    try:
        is_collection = path.lower().endswith(".ttc")
        font = TTCollection(path, lazy=True).fonts[0] if is_collection else TTFont(path, lazy=True)
        cmap = font.getBestCmap() or {}
        family = font["name"].getBestFamilyName() or Path(path).stem
    except (TTLibError, OSError, KeyError, AssertionError) as error:
        raise RecipeError(f"{path}: not a font that can be read: {error}; remove it from the folder") from error
    covered = frozenset(point for point, glyph in cmap.items() if glyph != ".notdef" and point > 0x1F)
    return Face(path, covered, "CBDT" in font, family)


@functools.lru_cache(maxsize=512)
def sized(path: str, size: int) -> ImageFont.FreeTypeFont:
    """A font at a size in pixels, in the basic layout."""
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@functools.lru_cache(maxsize=1 << 17)
def _is_drawn(path: str, colour: bool, char: str) -> bool:
    if char.isspace():
        return char in " \u3000"
    return sized(path, COLOUR_SIZE if colour else 24).getmask(char, "RGBA" if colour else "L").getbbox() is not None


def length(face: Face, size: int, text: str) -> float:
    """Pixels from where the text starts to where the next would."""
    return float(sum(map(_advances(face.path, size).__getitem__, text)))


class _Advances(dict[str, float]):
    """Advance widths of characters, asked for once each: the basic layout adds them, kerning aside."""

    def __init__(self, font: ImageFont.FreeTypeFont) -> None:
        super().__init__()
        self.font = font

    def __missing__(self, char: str) -> float:
        self[char] = self.font.getlength(char)
        return self[char]


@functools.lru_cache(maxsize=512)
def _advances(path: str, size: int) -> _Advances:
    return _Advances(sized(path, size))


@dataclass(frozen=True, slots=True)
class Ink:
    """What a text leaves on the page: its mask (L) cut to the ink, or its own colours (RGBA), and where from.

    `x`, `y`: from the line's start and its ascender to the ink's top left corner, in pixels.
    """

    mask: Image.Image
    x: int
    y: int


def ink(face: Face, size: int, text: str) -> Ink:
    """The ink of one horizontal line. Raises ValueError for a text without any."""
    if face.colour:
        return _emoji(face, size, text)
    font = sized(face.path, size)
    left, _, right, bottom = font.getbbox(text)
    page = Image.new("L", (int(right - min(left, 0)) + size, int(bottom) + size))
    ImageDraw.Draw(page).text((size // 2 - min(left, 0), size // 2), text, fill=255, font=font)
    box = page.getbbox()
    if box is None:
        raise ValueError(f"text without ink: {text!r}")
    return Ink(page.crop(box), box[0] - int(size // 2 - min(left, 0)), box[1] - size // 2)


def vertical_ink(face: Face, size: int, text: str, step: int) -> Ink:
    """The ink of a column, each character centred on the column's axis, `step` pixels from the one above."""
    page = Image.new("L", (2 * size, step * len(text) + size))
    for number, char in enumerate(text):
        one = ink(face, size, char)
        page.paste(one.mask, (size - one.mask.width // 2, number * step + max(one.y, 0)))
    box = page.getbbox()
    assert box is not None
    return Ink(page.crop(box), box[0] - size // 2, box[1])


def _emoji(face: Face, size: int, text: str) -> Ink:
    """Colour bitmaps, made at the font's one size and scaled."""
    whole = [_emoji_bitmap(face.path, char).resize((size, size), Image.Resampling.LANCZOS) for char in text]
    page = Image.new("RGBA", (size * len(whole), size))
    for number, bitmap in enumerate(whole):
        page.paste(bitmap, (number * size, 0))
    box = page.getbbox()
    if box is None:
        raise ValueError(f"text without ink: {text!r}")
    return Ink(page.crop(box), box[0], box[1])


@functools.lru_cache(maxsize=2048)
def _emoji_bitmap(path: str, char: str) -> Image.Image:
    font = sized(path, COLOUR_SIZE)
    left, top, right, bottom = font.getbbox(char)
    side = int(max(right - left, bottom - top)) + 2
    page = Image.new("RGBA", (side, side))
    ImageDraw.Draw(page).text((-left + 1, -top + 1), char, font=font, embedded_color=True)
    return page
