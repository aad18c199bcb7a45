"""Where text stands on a page: lines with their fonts, sizes and places, before anything is drawn."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from data_engine.synthesis import fonts
from data_engine.synthesis.fonts import Face
from data_engine.synthesis.texts import LATIN_LETTERS, Texts, nonsense, traditional, wrap
from data_engine.synthesis.wording import Language

Layout = Literal["line", "icon", "paragraph", "columns", "vertical", "sign", "row", "receipt", "sheet"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
Role = Literal["body", "furniture"]


@dataclass(frozen=True, slots=True)
class Line:
    """A text from (x, y), the left end and the ascender, in pixels; with `step` a column of characters from there."""

    text: str
    face: Face
    size: int
    x: int
    y: int
    role: Role = "body"
    step: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in reading order, each of one line or of cells; `rules` are filled rectangles in the ink's colour."""

    width: int
    height: int
    rows: tuple[tuple[Line, ...], ...]
    joiner: str = " "
    rules: tuple[tuple[int, int, int, int], ...] = ()

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(line for row in self.rows for line in row)

    def text(self, roles: Sequence[Role] = ("body", "furniture")) -> str:
        """What is to be read, row by row."""
        kept = [[line.text for line in row if line.role in roles] for row in self.rows]
        return "\n".join(self.joiner.join(row) for row in kept if row)


@dataclass(frozen=True, slots=True)
class Writer:
    """All that a layout writes with: one random state, one language, one font, and what the words come from."""

    rng: random.Random
    language: Language
    face: Face
    texts: Texts
    is_nonsense: bool
    is_traditional: bool

    def words(self, least: int, most: int) -> str:
        """A text that the font can draw whole. Raises ValueError where two hundred passages have none."""
        for _ in range(200):
            text = self._candidate(least, most)
            if len(text) > max(1, least // 4) and "|" not in text and self.face.covers(text):
                return text
        raise ValueError(f"{self.face.path}: covers too little of the texts in {self.language}")

    def _candidate(self, least: int, most: int) -> str:
        if self.is_nonsense:
            length = self.rng.randint(least, most)
            return nonsense(self.rng, self.language, length, self.is_traditional)
        text = self.texts.take(self.rng, self.language, least, most)
        return traditional(text) if self.is_traditional else text

    def length(self, size: int) -> Callable[[str], float]:
        return lambda text: fonts.length(self.face, size, text)

    def wrapped(self, text: str, size: int, x: int, y: int, width: int, spacing: int) -> list[Line]:
        lines = wrap(text, width, self.length(size))
        return [Line(line, self.face, size, x, y + spacing * number) for number, line in enumerate(lines)]

    def size(self, least: int, most: int) -> int:
        return (
            self.rng.randint(max(least, 18), max(most, 20)) if self.language == "zh" else self.rng.randint(least, most)
        )

    def characters(self, english: int) -> int:
        """About as much to read in Han characters as in so many letters."""
        return english if self.language == "en" else max(2, english * 2 // 5)


def line(writer: Writer) -> Page:
    """One line, small or large."""
    return _centred(writer, [writer.words(writer.characters(8), writer.characters(40))], writer.size(14, 72))


def icon(writer: Writer) -> Page:
    """One short word on a picture of little more than its own size."""
    return _centred(writer, [writer.words(writer.characters(4), writer.characters(9))], writer.size(14, 22))


def sign(writer: Writer) -> Page:
    """Two or three short lines, large, each centred, within a frame or not."""
    count = writer.rng.randint(2, 3)
    texts = [writer.words(writer.characters(6), writer.characters(16)) for _ in range(count)]
    page = _centred(writer, texts, writer.size(36, 96))
    return _framed(page, writer.rng) if writer.rng.random() < 0.5 else page


def paragraph(writer: Writer) -> Page:
    """Up to ten lines of running text."""
    size = writer.size(14, 34)
    width = size * writer.rng.randint(14, 26)
    margin, spacing = 2 * size, int(size * writer.rng.uniform(1.35, 1.8))
    text = writer.words(writer.characters(90), writer.characters(240))
    lines = writer.wrapped(text, size, margin, margin, width, spacing)
    return Page(width + 2 * margin, 2 * margin + spacing * len(lines), tuple((one,) for one in lines))


def columns(writer: Writer) -> Page:
    """Two columns of running text, the left one read first."""
    size = writer.size(14, 26)
    width, gap, margin, spacing = size * writer.rng.randint(11, 15), 3 * size, 2 * size, int(size * 1.5)
    lines: list[Line] = []
    for number in range(2):
        text = writer.words(writer.characters(80), writer.characters(160))
        lines += writer.wrapped(text, size, margin + number * (width + gap), margin, width, spacing)
    bottom = max(one.y for one in lines) + spacing + margin
    return Page(2 * (width + margin) + gap, bottom, tuple((one,) for one in lines))


def vertical(writer: Writer) -> Page:
    """Chinese in columns from right to left; marks of punctuation are left out, as they have forms of their own."""
    size = writer.size(20, 48)
    step, per_column, count = int(size * 1.15), writer.rng.randint(5, 9), writer.rng.randint(1, 4)
    text = ""
    while len(text) < per_column * count:
        text += "".join(char for char in writer.words(8, 24) if "\u4e00" <= char <= "\u9fff")
    width = size * 2 + count * int(size * 1.7)
    rows = []
    for number in range(count):
        x = width - size - int(size * 1.7) * number - int(size * 1.2)
        column = text[number * per_column : (number + 1) * per_column]
        rows.append((Line(column, writer.face, size, x, size, step=step),))
    return Page(width, 2 * size + step * per_column, tuple(rows))


def row(writer: Writer) -> Page:
    """One row of a table, ruled, its cells read from left to right."""
    size, count = writer.size(14, 30), writer.rng.randint(3, 5)
    cells = [_cell(writer) for _ in range(count)]
    lines, rules, x, pad = [], [], size, max(8, size // 2)
    bottom = size + 2 * pad + int(size * 1.3)
    for text in cells:
        rules.append((x, size, x + max(1, size // 14), bottom))
        lines.append(Line(text, writer.face, size, x + pad, size + pad))
        x += int(fonts.length(writer.face, size, text)) + 2 * pad
    thin = max(1, size // 14)
    rules += [(x, size, x + thin, bottom), (size, size, x, size + thin), (size, bottom - thin, x + thin, bottom)]
    return Page(x + size, bottom + size, (tuple(lines),), " | ", tuple(rules))


def _cell(writer: Writer) -> str:
    if writer.rng.random() < 0.4:
        return str(round(writer.rng.uniform(1, 10_000), writer.rng.choice((0, 1, 2))))
    return writer.words(writer.characters(5), writer.characters(14))


def receipt(writer: Writer) -> Page:
    """A heading, goods with their prices at the right edge, and the sum, which is right."""
    size, rng = writer.size(15, 26), writer.rng
    width, spacing, margin = size * 17, int(size * 1.7), size
    goods = [
        (writer.words(writer.characters(6), writer.characters(16)), rng.randint(50, 20_000))
        for _ in range(rng.randint(2, 6))
    ]
    heading = writer.words(writer.characters(6), writer.characters(14))
    total = {"en": "TOTAL", "zh": "合计"}[writer.language]
    left = max(margin, int(width - fonts.length(writer.face, size, heading)) // 2)
    rows: list[tuple[Line, ...]] = [(Line(heading, writer.face, size, left, margin),)]
    for number, (name, cents) in enumerate([*goods, (total, sum(price for _, price in goods))], start=1):
        price, y = f"{cents / 100:.2f}", margin + spacing * number
        x = width - margin - int(fonts.length(writer.face, size, price))
        rows.append((Line(name, writer.face, size, margin, y), Line(price, writer.face, size, x, y)))
    last = margin + spacing * (len(goods) + 1)
    rule = (margin, last - spacing // 5, width - margin, last - spacing // 5 + max(1, size // 12))
    return Page(width, last + spacing + margin, tuple(rows), " ", (rule,))


def sheet(writer: Writer) -> Page:
    """A scanned page of about two million pixels: running title, heading, paragraphs, a page number at the foot."""
    width, height = writer.rng.choice([(1240, 1754), (1448, 2048), (1754, 1240)])
    size, margin = writer.size(22, 34), width // 10
    spacing, y = int(size * 1.6), margin
    top = Line(
        writer.words(writer.characters(10), writer.characters(30)),
        writer.face,
        size * 3 // 4,
        margin,
        margin // 2,
        "furniture",
    )
    body = [Line(writer.words(writer.characters(8), writer.characters(24)), writer.face, size * 3 // 2, margin, y)]
    y += size * 3
    while y < height - margin - 4 * spacing:
        text = writer.words(writer.characters(150), writer.characters(420))
        lines = writer.wrapped(text, size, margin, y, width - 2 * margin, spacing)
        body += [one for one in lines if one.y < height - margin - 2 * spacing]
        y += spacing * (len(lines) + 1)
    foot = Line(
        str(writer.rng.randint(2, 998)), writer.face, size * 3 // 4, width // 2, height - margin * 3 // 4, "furniture"
    )
    rule = (margin, margin // 2 + size, width - margin, margin // 2 + size + 2)
    return Page(width, height, tuple((one,) for one in [top, *body, foot]), " ", (rule,))


MAKERS: Mapping[Layout, Callable[[Writer], Page]] = {
    "line": line,
    "icon": icon,
    "paragraph": paragraph,
    "columns": columns,
    "vertical": vertical,
    "sign": sign,
    "row": row,
    "receipt": receipt,
    "sheet": sheet,
}


def _centred(writer: Writer, texts: Sequence[str], size: int) -> Page:
    lengths = [int(fonts.length(writer.face, size, text)) for text in texts]
    spacing, margin = int(size * 1.5), max(8, int(size * writer.rng.uniform(0.6, 1.6)))
    width = max(lengths) + 2 * margin
    rows = [
        (Line(text, writer.face, size, (width - length) // 2, margin + spacing * number),)
        for number, (text, length) in enumerate(zip(texts, lengths, strict=True))
    ]
    return Page(width, 2 * margin + spacing * len(texts), tuple(rows))


def _framed(page: Page, rng: random.Random) -> Page:
    thin, inset = rng.randint(2, 5), 3
    right, bottom = page.width - inset, page.height - inset
    rules = (
        (inset, inset, right, inset + thin),
        (inset, bottom - thin, right, bottom),
        (inset, inset, inset + thin, bottom),
        (right - thin, inset, right, bottom),
    )
    return Page(page.width, page.height, page.rows, page.joiner, rules)


def can_write(face: Face, language: Language) -> bool:
    """Whether a font has the common characters of a language."""
    return not face.colour and face.covers("的一是不了人我在有他" if language == "zh" else LATIN_LETTERS + "0123456789")
