"""Pages of a PDF with a text layer: pictures of its blocks of text, with that layer as the exact truth.

`pdftotext -bbox-layout` says where the lines of a page are and what they say; `pdftoppm` draws the page.
Only a block whose picture shows its own text whole, and nothing else, becomes a sample.
"""

import io
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

from PIL import Image
from pydantic import Field

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Media, Sample, assistant, user
from data_engine.sources.common import (
    Quarantined,
    files,
    folder_of,
    image_part,
    make_sample,
    parse_options,
    path_of,
    pick,
    quarantining,
)
from strict_yaml import Strict

DPI = 100
MARGIN = 1.5  # points of paper kept around a block; less than lines are apart
MAX_LINES = 3
PROMPTS = {
    "en": ("Read the text in this image.", "What does the text say?", "Transcribe this part of the page."),
    "zh": ("请读出图中的文字。", "图中的文字是什么？", "把这段文字抄写下来。"),
}
T = TypeVar("T")
_XHTML = "{http://www.w3.org/1999/xhtml}"
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


class PdfOptions(Strict):
    """`pages` and `max_blocks`: at most so many pages a file and blocks a page, spread evenly (null: all).

    `max_chars`: a block with more characters is not used.
    """

    pages: int | None = Field(default=None, ge=1)
    max_blocks: int | None = Field(default=None, ge=1)
    max_chars: int = Field(default=300, ge=1)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in points from the page's upper left corner."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def grown(self, margin: float) -> "Box":
        return Box(self.left - margin, self.top - margin, self.right + margin, self.bottom + margin)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text and where it is."""

    box: Box
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page's box and its blocks of lines."""

    box: Box
    blocks: tuple[tuple[Line, ...], ...]


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """One unit per page, `file.pdf#page=3` (pages count from 1); of a damaged file, one that says so."""
    wanted = parse_options(PdfOptions, options, "pdf").pages
    found = []
    for name in files(root, {".pdf"}):
        pages = spread(list(range(1, num_pages(folder_of(root) / name) + 1)), wanted) or [1]
        found += [f"{name}#page={page}" for page in pages]
    return found


@quarantining
def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """One sample per usable block of the page: its picture, a request to read it, its text."""
    name, _, number = unit.rpartition("#page=")
    path, options = path_of(root, name), parse_options(PdfOptions, source.options, "pdf")
    if path.stat().st_size == 0:
        yield Quarantined(corpus, unit, "pdf", "empty file")
        return
    try:
        page = parse_page(_poppler("pdftotext", "-bbox-layout", "-f", number, "-l", number, path, "-"))
        drawn = _poppler("pdftoppm", "-png", "-r", str(DPI), "-f", number, "-l", number, path)
    except (ValueError, OSError) as error:
        yield Quarantined(corpus, unit, "pdf", str(error))
        return
    picture = Image.open(io.BytesIO(drawn)).convert("RGB")
    for index, lines in enumerate(spread(usable_blocks(page, options.max_chars), options.max_blocks)):
        text = "\n".join(line.text for line in lines)
        key = store.put_bytes(_crop(picture, _around(lines).grown(MARGIN)), ".png")
        prompt = pick(PROMPTS["zh" if _CHINESE.search(text) else "en"], unit, index)
        messages = (user(image_part(), prompt), assistant(text))
        media = [Media("image", key)]
        yield make_sample(corpus, source, messages, media, origin=f"{unit}/{index}", group=unit)


def usable_blocks(page: Page, max_chars: int) -> list[tuple[Line, ...]]:
    """Runs of one to three lines that are wholly on the page and whose picture shows no other text.

    Lines set side by side in one block are left out: their reading order would be a guess.
    """
    everything = [line for block in page.blocks for line in block]
    found = []
    for block in page.blocks:
        if any(_beside(a, b) for a, b in pairwise(block)):
            continue
        for start in range(0, len(block), MAX_LINES):
            lines = block[start : start + MAX_LINES]
            area = _around(lines).grown(MARGIN)
            alone = not any(other.box.meets(area) for other in everything if other not in lines)
            short = sum(len(line.text) for line in lines) + len(lines) - 1 <= max_chars
            if alone and short and _within(_around(lines), page.box):
                found.append(lines)
    return found


def parse_page(xhtml: bytes) -> Page:
    """The only page of `pdftotext -bbox-layout`'s output; words of a line are joined by single spaces.

    Raises ValueError if that is no page.
    """
    try:
        root = ElementTree.fromstring(_NOT_XML.sub("", xhtml.decode("utf-8", errors="strict")))
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"text layer cannot be read: {error}") from error
    page = root.find(f".//{_XHTML}page")
    if page is None:
        raise ValueError("no such page")
    box = Box(0, 0, float(page.attrib["width"]), float(page.attrib["height"]))
    blocks = (tuple(map(_line, block.iter(f"{_XHTML}line"))) for block in page.iter(f"{_XHTML}block"))
    return Page(box, tuple(blocks))


def _line(element: ElementTree.Element) -> Line:
    sides = (float(element.attrib[side]) for side in ("xMin", "yMin", "xMax", "yMax"))
    return Line(Box(*sides), " ".join(word.text or "" for word in element.iter(f"{_XHTML}word")))


def spread(items: list[T], count: int | None) -> list[T]:
    """At most `count` of the items, at even distances."""
    if count is None or len(items) <= count:
        return items
    return [items[(2 * index + 1) * len(items) // (2 * count)] for index in range(count)]


def _around(lines: tuple[Line, ...]) -> Box:
    boxes = [line.box for line in lines]
    left, top = min(box.left for box in boxes), min(box.top for box in boxes)
    return Box(left, top, max(box.right for box in boxes), max(box.bottom for box in boxes))


def _beside(a: Line, b: Line) -> bool:
    """Whether two lines stand side by side, at least in part; one below the other, boxes may touch."""
    return min(a.box.bottom, b.box.bottom) - max(a.box.top, b.box.top) > 1


def _within(inner: Box, outer: Box) -> bool:
    across = outer.left <= inner.left and inner.right <= outer.right
    return across and outer.top <= inner.top and inner.bottom <= outer.bottom


def _crop(picture: Image.Image, box: Box) -> bytes:
    scale = DPI / 72
    left, top = max(0, int(box.left * scale)), max(0, int(box.top * scale))
    right, bottom = (
        min(picture.width, int(box.right * scale) + 1),
        min(picture.height, int(box.bottom * scale) + 1),
    )
    buffer = io.BytesIO()
    picture.crop((left, top, right, bottom)).save(buffer, "PNG")
    return buffer.getvalue()


def page_of(path: Path, number: int) -> tuple[Box, tuple[tuple[Line, ...], ...]]:
    """The box and the blocks of lines of page `number` (from 1), in reading order. Raises ValueError."""
    page = parse_page(_poppler("pdftotext", "-bbox-layout", "-f", str(number), "-l", str(number), path, "-"))
    return page.box, page.blocks


def num_pages(path: Path) -> int:
    """Pages of a file; 0 if it cannot be read."""
    try:
        report = _poppler("pdfinfo", path).decode(errors="replace")
    except ValueError:
        return 0
    found = re.search(r"^Pages:\s+(\d+)", report, re.MULTILINE)
    return int(found[1]) if found else 0


def _poppler(*command: str | Path) -> bytes:
    """A poppler tool's output. Raises ValueError with its last words."""
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False)
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines() or ["failed"]
        raise ValueError(f"{command[0]}: {words[-1]}")
    return done.stdout
