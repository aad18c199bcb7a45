"""Documents as plain blocks, written as Markdown or HTML, and laid out by `synthesis.typeset`.

One tree has three writers, so that the source that is asked for says exactly what the picture shows. Texts hold no
sign that Markdown reads as its own.
"""

import html
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

MARKDOWN_SIGNS = frozenset("\\`*_{}[]<>#|$~&^")
"""What no text of a document may hold."""
HOLE = "____"
"""Stands in a source where something is to be filled in."""

Style = Literal["plain", "bold", "italic", "code", "formula"]


@dataclass(frozen=True, slots=True)
class Span:
    """Words in one style. A `formula` has its LaTeX as text and what the typesetter is given as `typst`."""

    text: str
    style: Style = "plain"
    typst: str = ""


@dataclass(frozen=True, slots=True)
class Heading:
    level: int
    text: Span


@dataclass(frozen=True, slots=True)
class Paragraph:
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    is_numbered: bool
    items: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Table:
    header: tuple[Span, ...]
    rows: tuple[tuple[Span, ...], ...]


@dataclass(frozen=True, slots=True)
class Formula:
    """One on a line of its own."""

    formula: Span


Block = Heading | Paragraph | Listing | Table | Formula
Document = tuple[Block, ...]
Write = Callable[[Span], str]


def spans(document: Document) -> Iterator[Span]:
    """All spans in the order of reading."""
    for block in document:
        match block:
            case Heading(text=span) | Formula(formula=span):
                yield span
            case Paragraph(spans=found) | Listing(items=found):
                yield from found
            case Table():
                yield from block.header
                for row in block.rows:
                    yield from row


def markdown(document: Document, hole: Span | None = None) -> str:
    """GitHub's Markdown; formulas between dollars. `hole`: the span (the very object) that is left out."""

    def write(span: Span) -> str:
        text = HOLE if span is hole else span.text
        mark = {"plain": "", "bold": "**", "italic": "*", "code": "`", "formula": "$"}[span.style]
        return f"{mark}{text}{mark}"

    return "\n\n".join(_markdown_block(block, write) for block in document)


def _markdown_block(block: Block, write: Write) -> str:
    match block:
        case Heading():
            return "#" * block.level + " " + write(block.text)
        case Paragraph():
            return "".join(map(write, block.spans))
        case Listing():
            marks = (f"{number}." if block.is_numbered else "-" for number in range(1, len(block.items) + 1))
            return "\n".join(f"{mark} {write(item)}" for mark, item in zip(marks, block.items, strict=True))
        case Table():
            rows = [block.header, *block.rows]
            lines = ["| " + " | ".join(map(write, row)) + " |" for row in rows]
            return "\n".join([lines[0], "|" + " --- |" * len(block.header), *lines[1:]])
        case Formula():
            return f"$${write(block.formula).strip('$')}$$"


_TAGS: Mapping[Style, str] = {"bold": "b", "italic": "i", "code": "code"}


def html_source(document: Document, hole: Span | None = None) -> str:
    """HTML 5 without a head, one block or row a line; formulas stand as their LaTeX between \\( and \\)."""

    def write(span: Span) -> str:
        text = HOLE if span is hole else html.escape(span.text, quote=False)
        if span.style == "formula":
            return rf"\({text}\)"
        tag = _TAGS.get(span.style)
        return f"<{tag}>{text}</{tag}>" if tag else text

    return "\n".join(_html_block(block, write) for block in document)


def _html_block(block: Block, write: Write) -> str:
    match block:
        case Heading():
            return f"<h{block.level}>{write(block.text)}</h{block.level}>"
        case Paragraph():
            return "<p>" + "".join(map(write, block.spans)) + "</p>"
        case Listing():
            tag = "ol" if block.is_numbered else "ul"
            return "\n".join([f"<{tag}>", *(f"  <li>{write(item)}</li>" for item in block.items), f"</{tag}>"])
        case Table():
            head = "  <tr>" + "".join(f"<th>{write(cell)}</th>" for cell in block.header) + "</tr>"
            rows = ("  <tr>" + "".join(f"<td>{write(cell)}</td>" for cell in row) + "</tr>" for row in block.rows)
            return "\n".join(["<table>", head, *rows, "</table>"])
        case Formula():
            return f"<p>{write(block.formula)}</p>"
