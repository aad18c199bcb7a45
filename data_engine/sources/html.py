"""Web pages as interleaved documents: text, and pictures re-inserted where they stood.

The page is parsed by lxml and walked here: extractors that find a page's article (trafilatura, resiliparse) move
or lose its pictures and tie no caption to its figure. Scripts, forms, navigation and blocks of links are left out.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

import lxml.html
from lxml.etree import LxmlError
from pydantic import Field

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Sample
from data_engine.sources.common import (
    MAX_RECORD,
    Quarantined,
    RecordError,
    files,
    folder_of,
    inside,
    open_binary,
    parse_options,
    path_of,
    quarantining,
)
from data_engine.sources.interleaved import Block, Picture, document_sample, documents, has_content, put_picture
from strict_yaml import Strict

HEADINGS = {f"h{level}": level for level in range(1, 7)}
_DROPPED_TAGS = """script style noscript template nav aside footer form button select iframe object embed svg canvas
    audio video"""
_BLOCK_TAGS = """address article blockquote body center dd details dir div dl dt fieldset figcaption figure header hr li
    main menu ol p pre section summary table tbody td tfoot th thead tr ul caption"""
DROPPED = frozenset(_DROPPED_TAGS.split())
BLOCKS = frozenset(_BLOCK_TAGS.split()) | HEADINGS.keys()
_BOILERPLATE = re.compile(
    r"(?:^|[\s_-])(?:nav\w*|menu|sidebar|footer|breadcrumbs?|cookies?|advert\w*|ads?|share|social|toc|skip|pagination)"
    r"(?:$|[\s_-])"
)
_ROLES = frozenset({"navigation", "banner", "contentinfo", "search", "complementary", "menu"})
_CHARSET = re.compile(rb"""charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_SPACES = re.compile(r"\s+")


class HtmlOptions(Strict):
    """`max_chars`: the longest document, in characters. `min_side`: smaller images are ornaments, in pixels."""

    max_chars: int = Field(default=8000, ge=1)
    min_side: int = Field(default=32, ge=1)


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """One unit per page."""
    parse_options(HtmlOptions, options, "html")
    return files(root, {".html", ".htm", ".xhtml"})


@quarantining
def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """Documents `page.html#0`, ... of one page, which is their group; an image at fault leaves its place empty."""
    options = parse_options(HtmlOptions, source.options, "html")
    path = path_of(root, unit)
    try:
        page = parse(path)
    except RecordError as error:
        yield error.at(corpus, unit)
        return
    walk = _Walk(path.parent, folder_of(root), store, options.min_side)
    walk.visit(content_of(page))
    walk.end_block()
    yield from (fault.at(corpus, f"{unit}#image={number}") for number, fault in walk.faults)
    if not has_content(walk.blocks):
        yield Quarantined(corpus, unit, "text", "nothing but navigation, or nothing at all")
        return
    for number, blocks in enumerate(documents(walk.blocks, options.max_chars)):
        yield document_sample(blocks, corpus, source, f"{unit}#{number}", group=f"{corpus}/{unit}")


def parse(path: Path) -> lxml.html.HtmlElement:
    """The page, decoded as it says itself (UTF-8 if it does not). Raises RecordError."""
    try:
        with open_binary(path) as stream:
            data = stream.read(MAX_RECORD + 1)
    except (OSError, EOFError) as error:
        raise RecordError("file", f"cannot be read: {error}") from error
    if len(data) > MAX_RECORD:
        raise RecordError("file", f"more than {MAX_RECORD:,} bytes")
    if not data.strip():
        raise RecordError("file", "empty file")
    declared = _CHARSET.search(data[:2048])
    encoding = declared[1].decode("ascii") if declared else "utf-8"
    try:
        text = data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise RecordError("text", f"not {encoding.upper()} at byte {error.start}") from error
    except LookupError as error:
        raise RecordError("text", f"unknown encoding {encoding!r}") from error
    if "\0" in text:
        raise RecordError("text", f"NUL byte at character {text.index(chr(0))}")
    try:
        parser = lxml.html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
        page = lxml.html.document_fromstring(text.encode(), parser=parser)
    except (LxmlError, ValueError, AssertionError) as error:
        raise RecordError("file", f"not HTML: {error}") from error
    # libxml2 recovers from bad markup, but not from its own limits: it stops reading and says so only here.
    if limits := [fault.message for fault in parser.error_log if fault.type_name == "ERR_RESOURCE_LIMIT"]:
        raise RecordError("file", f"nested too deep or too large: {limits[0]}")
    return page


def content_of(page: lxml.html.HtmlElement) -> lxml.html.HtmlElement:
    """The page's one `main` or `article`, else its body."""
    for path in (".//main", ".//*[@role='main']", ".//article"):
        found = page.findall(path)
        if len(found) == 1:
            return found[0]
    body = page.find("body")
    return page if body is None else body


class _Walk:
    """Gathers blocks in the order of the page; `faults` are (number of the image on the page, what is wrong)."""

    def __init__(self, here: Path, root: Path, store: MediaStore, min_side: int) -> None:
        self.here, self.root, self.store, self.min_side = here, root, store, min_side
        self.blocks: list[Block] = []
        self.faults: list[tuple[int, RecordError]] = []
        self._atoms: list[str | Picture] = []
        self._images = 0
        self._heading = self._preformatted = self._figure = False

    def visit(self, element: lxml.html.HtmlElement) -> None:
        """An element and all in it, without the text that follows it."""
        tag = str(element.tag)
        if is_boilerplate(element):
            return
        if tag == "img":
            self._image(element)
        elif tag == "br":
            self._atoms.append("\n")
        elif tag == "figure" or tag in HEADINGS or tag == "pre":
            self._whole_block(element, tag)
        elif tag in BLOCKS and not self._figure:
            self._block(element, tag)
        else:
            if self._figure and tag in BLOCKS and self._atoms:
                self._atoms.append("\n")
            self._inside(element)

    def end_block(self) -> None:
        atoms = tuple(_trimmed(self._atoms))
        if atoms:
            self.blocks.append(Block(atoms, self._heading))
        self._atoms = []

    def _block(self, element: lxml.html.HtmlElement, tag: str) -> None:
        if tag in {"td", "th"}:
            if self._atoms and self._atoms[-1] != "- ":
                self._atoms.append(" | ")
            self._inside(element)
            return
        self.end_block()
        if tag == "li":
            self._atoms.append("- ")
        self._inside(element)
        self.end_block()

    def _whole_block(self, element: lxml.html.HtmlElement, tag: str) -> None:
        """A figure with its caption, a heading, or preformatted text: one block, whatever is in it."""
        self.end_block()
        before = self._heading, self._preformatted, self._figure
        self._heading, self._preformatted, self._figure = tag in HEADINGS, tag == "pre", True
        if tag in HEADINGS:
            self._atoms.append("#" * HEADINGS[tag] + " ")
        self._inside(element)
        if self._atoms != ["#" * HEADINGS.get(tag, 0) + " "]:
            self.end_block()
        self._atoms = []
        self._heading, self._preformatted, self._figure = before

    def _inside(self, element: lxml.html.HtmlElement) -> None:
        self._text(element.text)
        for child in element:
            self.visit(child)
            self._text(child.tail)

    def _text(self, text: str | None) -> None:
        if text:
            self._atoms.append(text if self._preformatted else _SPACES.sub(" ", text))

    def _image(self, element: lxml.html.HtmlElement) -> None:
        self._images += 1
        try:
            source = element.get("data-src") or element.get("src") or ""
            data = self._image_bytes(source.strip())
            self._atoms.append(put_picture(data, self.store, self.min_side))
        except RecordError as error:
            self.faults.append((self._images, error))

    def _image_bytes(self, source: str) -> bytes:
        if source.startswith("data:"):
            return _data_uri(source)
        try:
            address = urlsplit(source)
        except ValueError as error:
            raise RecordError("image", f"no address: {source[:80]!r}") from error
        if address.scheme or address.netloc:
            raise RecordError("image", f"remote, not beside the page: {source[:200]!r}")
        words = unquote(address.path)
        base = self.root if words.startswith("/") else self.here
        try:
            path = inside(self.root, str((base / words.lstrip("/")).relative_to(self.root)) if words else "")
            return path.read_bytes()
        except (ValueError, OSError) as error:
            reason = "no such file" if isinstance(error, FileNotFoundError | IsADirectoryError) else str(error)
            raise RecordError("image", f"{reason}: {source[:200]!r}") from error


def is_boilerplate(element: lxml.html.HtmlElement) -> bool:
    """Scripts, forms, navigation, what is hidden, and blocks that are little else than links."""
    tag = element.tag
    if not isinstance(tag, str) or tag in DROPPED or element.get("role") in _ROLES:
        return True
    if element.get("hidden") is not None or element.get("aria-hidden") == "true":
        return True
    if "display:none" in (element.get("style") or "").replace(" ", ""):
        return True
    if tag in {"body", "html", "main", "article"} or tag not in BLOCKS:
        return False
    names = f"{element.get('class', '')} {element.get('id', '')}".lower()
    return bool(_BOILERPLATE.search(names)) or (tag in {"ul", "ol", "div", "table", "p"} and _is_links(element))


def _is_links(element: lxml.html.HtmlElement) -> bool:
    links = element.findall(".//a[@href]")
    if len(links) < 3 or element.find(".//img") is not None:
        return False
    linked = sum(len("".join(link.itertext()).strip()) for link in links)
    return linked > 0.8 * len(_SPACES.sub(" ", "".join(element.itertext())).strip())


def _data_uri(source: str) -> bytes:
    head, comma, body = source.partition(",")
    if not comma:
        raise RecordError("image", "data URI without data")
    try:
        return base64.b64decode(unquote(body), validate=True) if head.endswith(";base64") else unquote_to_bytes(body)
    except (binascii.Error, ValueError) as error:
        raise RecordError("image", f"data URI does not decode: {error}") from error


def _trimmed(atoms: list[str | Picture]) -> Iterator[str | Picture]:
    """Neighbouring texts joined, spaces around line ends, pictures and the whole taken away."""
    joined: list[str | Picture] = []
    for atom in atoms:
        if isinstance(atom, str) and joined and isinstance(joined[-1], str):
            joined[-1] += atom
        else:
            joined.append(atom)
    for number, atom in enumerate(joined):
        if isinstance(atom, Picture):
            yield atom
            continue
        text = re.sub(r"(?<=\S) {2,}", " ", atom)
        text = text.lstrip(" \n") if number == 0 and text[:1] in " \n" and not text.startswith("    ") else text
        text = text.rstrip() if number == len(joined) - 1 else text
        if text.strip() and text.strip() != "-":
            yield text
