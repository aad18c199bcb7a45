"""PDFs as interleaved documents: blocks of text in reading order, and embedded pictures where they stand.

poppler's `pdftotext -bbox-layout` knows the reading order of columns but no pictures; pdfium tells where every
embedded picture is and decodes it. A picture follows the lowest block above it in its own column.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pypdfium2  # type: ignore[import-untyped]
from pydantic import Field
from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE  # type: ignore[import-untyped]

from data_engine.media import MAX_PIXELS, MediaStore
from data_engine.recipe import Source
from data_engine.sample import Sample
from data_engine.sources.common import Quarantined, RecordError, files, folder_of, parse_options, path_of, quarantining
from data_engine.sources.interleaved import Block, Picture, document_sample, documents, has_content, put_picture
from data_engine.sources.pdf import Box, Line, num_pages, page_of
from strict_yaml import Strict

EDGE = 0.08
"""The share of a page's height, at its top and bottom, where running titles and page numbers stand."""
SHORT = 0.2
_CJK = re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]")
_DIGITS = re.compile(r"\d+|\b[ivxlc]+\b")


class PdfPagesOptions(Strict):
    """`unit_pages`: pages that are read together. `max_chars`: the longest document, in characters.

    `min_side`: smaller images are ornaments, in pixels.
    """

    unit_pages: int = Field(default=8, ge=1)
    max_chars: int = Field(default=8000, ge=1)
    min_side: int = Field(default=32, ge=1)


@dataclass(frozen=True, slots=True)
class Placed:
    """A block of text, or a picture, and where it is on its page."""

    box: Box
    block: Block


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """Ranges of pages, `file.pdf#pages=1-8` (from 1, both ends included)."""
    size = parse_options(PdfPagesOptions, options, "pdf_pages").unit_pages
    found = []
    for name in files(root, {".pdf"}):
        count = max(1, num_pages(folder_of(root) / name))
        found += [f"{name}#pages={first}-{min(first + size - 1, count)}" for first in range(1, count + 1, size)]
    return found


@quarantining
def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """Documents of a range of pages, `file.pdf#pages=1-8/0`, ...; the file is their group."""
    options = parse_options(PdfPagesOptions, source.options, "pdf_pages")
    name, _, span = unit.rpartition("#pages=")
    path = path_of(root, name)
    first, last = map(int, span.split("-"))
    if path.stat().st_size == 0:
        yield Quarantined(corpus, unit, "pdf", "empty file")
        return
    pages: list[tuple[Box, list[Placed]]] = []
    for number in range(first, last + 1):
        where = f"{name}#page={number}"
        try:
            box, blocks = page_of(path, number)
            pictures, faults = _pictures(path, number, store, options.min_side)
        except (ValueError, OSError, pypdfium2.PdfiumError) as error:
            yield Quarantined(corpus, where, "pdf", str(error))
            continue
        yield from (fault.at(corpus, f"{where}/image={index}") for index, fault in faults)
        pages.append((box, in_order([_text(lines) for lines in blocks if lines], pictures)))
    blocks_in_order = [placed.block for placed in _without_running_titles(pages)]
    if pages and not has_content(blocks_in_order):
        yield Quarantined(corpus, unit, "text", "pages without text or pictures")
        return
    for index, document in enumerate(documents(blocks_in_order, options.max_chars)):
        yield document_sample(document, corpus, source, f"{unit}/{index}", group=f"{corpus}/{name}")


def in_order(texts: Sequence[Placed], pictures: Sequence[Placed]) -> list[Placed]:
    """The texts in their order, each picture behind the lowest text above its middle in the same column."""
    found = list(texts)
    for picture in sorted(pictures, key=lambda item: (item.box.top, item.box.left)):
        middle = (picture.box.top + picture.box.bottom) / 2
        above = [n for n, item in enumerate(found) if _one_column(item, picture) and item.box.bottom <= middle]
        below = [n for n, item in enumerate(found) if _one_column(item, picture) and item.box.bottom > middle]
        if above:
            at = max(above, key=lambda n: (found[n].box.bottom, n)) + 1
        elif below:
            at = below[0]
        else:
            at = sum(item.box.top < picture.box.top for item in found)
        found.insert(at, picture)
    return found


def _one_column(a: Placed, b: Placed) -> bool:
    return a.box.left < b.box.right and b.box.left < a.box.right


def _text(lines: Sequence[Line]) -> Placed:
    left, top = min(line.box.left for line in lines), min(line.box.top for line in lines)
    right, bottom = max(line.box.right for line in lines), max(line.box.bottom for line in lines)
    # A line that ends well before its block does was ended on purpose: code, verse, an address.
    wrapped = [line.box.right > right - SHORT * (right - left) for line in lines]
    text = join_lines([line.text for line in lines], wrapped)
    return Placed(Box(left, top, right, bottom), Block((text,)))


def join_lines(lines: Sequence[str], wrapped: Sequence[bool]) -> str:
    """Wrapped lines joined with what follows them: words divided by a hyphen made whole, Chinese without spaces."""
    text = lines[0]
    for line, joined in zip(lines[1:], wrapped, strict=False):
        if not joined:
            text += "\n" + line
        elif re.search(r"[a-z]-$", text) and line[:1].islower():
            text = text[:-1] + line
        elif text and line and _CJK.match(text[-1]) and _CJK.match(line[0]):
            text += line
        else:
            text += " " + line
    return text


def _without_running_titles(pages: Sequence[tuple[Box, list[Placed]]]) -> list[Placed]:
    """All blocks but those that stand, but for their numbers, at the edge of at least half of the pages."""
    counts = Counter(title for page, items in pages for title in {_title(page, item) for item in items} - {None})
    often = {title for title, count in counts.items() if count >= max(3, len(pages) / 2)}
    return [item for page, items in pages for item in items if _title(page, item) not in often]


def _title(page: Box, item: Placed) -> str | None:
    """What a block at the page's edge says, its numbers taken out; None if it stands elsewhere."""
    edge = EDGE * page.bottom
    (text, *_) = item.block.atoms
    if isinstance(text, Picture) or (edge < item.box.bottom and item.box.top < page.bottom - edge):
        return None
    return _DIGITS.sub("0", text)


def _pictures(
    path: Path, number: int, store: MediaStore, min_side: int
) -> tuple[list[Placed], list[tuple[int, RecordError]]]:
    """The page's embedded pictures, in points from its upper left corner; and those at fault, by their number.

    Raises pypdfium2.PdfiumError for a file that pdfium cannot open.
    """
    found, faults = [], []
    with pypdfium2.PdfDocument(path) as document:
        page = document[number - 1]
        left, _, _, top = page.get_mediabox()
        turned = page.get_rotation()
        for index, item in enumerate(page.get_objects(filter=[FPDF_PAGEOBJ_IMAGE])):
            try:
                if turned:
                    raise RecordError("image", f"the page is turned by {turned} degrees: its place is not known")
                x1, y1, x2, y2 = item.get_bounds()
                picture = put_picture(_png(item), store, min_side)
                found.append(Placed(Box(x1 - left, top - y2, x2 - left, top - y1), Block((picture,))))
            except (RecordError, pypdfium2.PdfiumError, ValueError, OSError) as error:
                faults.append((index, error if isinstance(error, RecordError) else RecordError("image", str(error))))
    return found, faults


def _png(item: Any) -> bytes:
    """The embedded picture itself, without masks and turns. Raises what pdfium and Pillow raise, and RecordError."""
    width, height = item.get_px_size()
    if width * height > MAX_PIXELS:
        raise RecordError("image", f"claims {width} x {height} pixels; the limit is {MAX_PIXELS:,}")
    buffer = BytesIO()
    item.get_bitmap(render=False).to_pil().save(buffer, "PNG")
    return buffer.getvalue()
