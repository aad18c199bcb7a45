"""What stands in a matrix of characters, and its drawing: every cell's character and the box of its ink."""

import functools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from PIL import Image

from data_engine.synthesis import backgrounds, fonts, text_pictures
from data_engine.synthesis.backgrounds import Box
from data_engine.synthesis.character_matrix import Matrix
from data_engine.synthesis.fonts import Face
from data_engine.synthesis.texts import DIGITS, Texts, simplified_characters

Noise = Literal["english", "japanese", "korean", "symbols", "digits", "rare", "emoji"]
NOISES: tuple[Noise, ...] = get_args(Noise)
Filling = Literal["passage", "common", "letters", "digits"]
FILLINGS: tuple[Filling, ...] = get_args(Filling)

# Each standing alone: without letters that have one shape in both cases, or that of a digit.
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabdefghijmnqrt"
# Without kana that look like Han characters (ニ ハ ロ カ タ エ ト チ ミ) or alike in both scripts (へ ヘ べ り リ).
_KANA = (
    "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふほまみむめもやゆよらるれろわをん"
    "アイウオキクケコサシスセソツテナヌネノヒフホマムモヤユヨラルレワヲン"
)
_SYMBOLS = "★☆●■▲△◆◇♠♣♥♦♪§¶※←↑→↓√∞≈≠≤≥±×÷€£¥&@#%"


@functools.cache
def pool(kind: Noise) -> str:
    """The characters of a kind of noise; which of them are drawn is up to the fonts."""
    emoji = (*range(0x1F400, 0x1F440), *range(0x1F345, 0x1F380), *range(0x1F680, 0x1F6A6))
    syllables = [bytes([a, b]).decode("euc_kr") for a in range(0xB0, 0xC9) for b in range(0xA1, 0xFF)]
    second_level = [bytes([a, b]).decode("gb2312") for a in range(0xD8, 0xF8) for b in range(0xA1, 0xFF)]
    kinds: Mapping[Noise, str] = {
        "english": _LETTERS,
        "japanese": _KANA,
        "korean": "".join(syllables),
        "symbols": _SYMBOLS,
        "digits": DIGITS,
        "rare": "".join(second_level) + "".join(map(chr, range(0x3400, 0x4DB6))),
        "emoji": "".join(map(chr, emoji)),
    }
    return kinds[kind]


@dataclass(frozen=True, slots=True)
class Fonts:
    """The fonts at hand. A character is drawn by the first that has it: each matrix has its own order."""

    faces: tuple[Face, ...]

    def of(self, char: str) -> Face | None:
        return next((face for face in self.faces if face.covers(char)), None)


def fill(
    rng: random.Random,
    size: tuple[int, int],
    filling: Filling,
    texts: Texts,
    noise: tuple[float, Sequence[Noise]],
    have: Fonts,
) -> Matrix:
    """A matrix of `size` (rows, columns): characters of one filling, a share of them replaced by noise.

    Only characters that one of the fonts has. Raises ValueError where the fonts have too few.
    """
    rows, columns = size
    share, kinds = noise
    chars = [char for char in _filled(rng, rows * columns, filling, texts) if have.of(char)][: rows * columns]
    if len(chars) < rows * columns:
        raise ValueError(f"the fonts have too few characters of the filling {filling!r}")
    for at in range(len(chars)):
        if kinds and rng.random() < share:
            other = rng.choice(pool(rng.choice(kinds)))
            chars[at] = other if have.of(other) else chars[at]
    return tuple(tuple(chars[row * columns : (row + 1) * columns]) for row in range(rows))


def _filled(rng: random.Random, count: int, filling: Filling, texts: Texts) -> str:
    """Somewhat more characters than asked for, as fonts may lack some."""
    if filling == "passage":
        text = ""
        while len(text) < 2 * count:
            text += "".join(char for char in texts.take(rng, "zh", count, 2 * count) if "\u4e00" <= char <= "\u9fff")
        return text
    known = {"common": simplified_characters(), "letters": _LETTERS, "digits": DIGITS}[filling]
    return "".join(rng.choices(known, k=2 * count))


@dataclass(frozen=True, slots=True)
class Sheet:
    """A drawn matrix: the encoded picture, its suffix, and each cell's box of ink, row by row."""

    data: bytes
    suffix: str
    boxes: tuple[tuple[Box, ...], ...]


def draw(rng: random.Random, matrix: Matrix, have: Fonts, photos: Sequence[Path] = ()) -> Sheet:
    """Characters centred in the cells of a grid, ruled or not, in one ink that can be read on the background."""
    size = rng.randint(26, 52)
    wide, high, margin = (int(size * rng.uniform(1.3, 1.8)) for _ in range(3))
    width, height = 2 * margin + wide * len(matrix[0]), 2 * margin + high * len(matrix)
    mask, colours, boxes = Image.new("L", (width, height)), [], []
    for row, line in enumerate(matrix):
        found = []
        for column, char in enumerate(line):
            face = have.of(char)
            assert face is not None, "`fill` takes only characters that a font has"
            glyph = _glyph(face, size, char)
            x = margin + column * wide + (wide - glyph.width) // 2
            y = margin + row * high + (high - glyph.height) // 2
            if glyph.mode == "RGBA":
                colours.append((glyph, x, y))
            else:
                mask.paste(255, (x, y), glyph)
            found.append((x, y, x + glyph.width, y + glyph.height))
        boxes.append(tuple(found))
    if rng.random() < 0.5:
        _rule(mask, margin, wide, high)
    kind = rng.choice(("plain", "gradient", "paper", *(("photo",) if photos else ())))
    back, ink = backgrounds.readable(rng, backgrounds.make(rng, kind, width, height, photos), [(0, 0, width, height)])
    image = Image.fromarray(back)
    image.paste(ink, (0, 0), mask)
    for glyph, x, y in colours:
        image.paste(glyph, (x, y), glyph)
    return Sheet(*text_pictures.kept(image, kind), tuple(boxes))


@functools.lru_cache(maxsize=1 << 14)
def _glyph(face: Face, size: int, char: str) -> Image.Image:
    return fonts.ink(face, size, char).mask


def _rule(mask: Image.Image, margin: int, wide: int, high: int) -> None:
    """Thin lines around every cell."""
    right, bottom = mask.width - margin, mask.height - margin
    for x in range(margin, right + 1, wide):
        mask.paste(255, (x, margin, x + 1, bottom + 1))
    for y in range(margin, bottom + 1, high):
        mask.paste(255, (margin, y, right + 1, y + 1))
