"""Documents and code set on a page by Typst (the `typst` wheel, Apache-2.0), which is one file and needs no browser.

Only the fonts of the named folder are used, and those inside the wheel (formulas need one): a page is the same on
every machine. Bold is a stroke around the letters and italic a slant, so that both show in fonts that have neither.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_engine.synthesis.documents import Block, Document, Formula, Heading, Listing, Paragraph, Span, Style, Table
from strict_yaml import RecipeError


@dataclass(frozen=True, slots=True)
class Sheet:
    """How a page looks: fonts by family, sizes in points, colours as `#rrggbb`. `width` 0: as wide as needed."""

    families: tuple[str, ...]
    mono: tuple[str, ...]
    size: float = 11
    width: float = 420
    paper: str = "#ffffff"
    ink: str = "#000000"
    ppi: float = 144
    is_zebra: bool = False


def quoted(text: str) -> str:
    """A string of Typst's language: nothing in it is markup."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def set_document(document: Document, sheet: Sheet, hidden: Span | None = None) -> str:
    """A document as Typst's markup. `hidden`: the span (the very object) that a dark bar covers."""
    return "\n".join([_page(sheet), *(_block(block, sheet, hidden) for block in document)])


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of code in one colour; `is_hidden`: covered by a dark bar."""

    text: str
    colour: str
    is_bold: bool = False
    is_hidden: bool = False


def set_code(lines: Sequence[Sequence[Token]], sheet: Sheet, are_numbered: bool) -> str:
    """Lines of coloured code, not wrapped."""
    rows = []
    for number, line in enumerate(lines, start=1):
        if are_numbered:
            rows.append(f"[#text(fill: luma(140))[#{quoted(str(number))}]]")
        rows.append("[#box(height: 0.72em)" + "".join(map(_token, line)) + "]")
    columns = "(auto, auto)" if are_numbered else "(auto,)"
    setting = f"#set text(font: {_list(sheet.mono)})\n"
    return (
        _page(sheet)
        + "\n"
        + setting
        + f"#grid(columns: {columns}, column-gutter: 1em, row-gutter: 0.65em, {', '.join(rows)})"
    )


def _token(token: Token) -> str:
    # Spaces that do not break are neither folded nor dropped at the line's start.
    weight = ", stroke: 0.25pt + rgb(" + quoted(token.colour) + ")" if token.is_bold else ""
    text = f"#text(fill: rgb({quoted(token.colour)}){weight}, {quoted(token.text.replace(' ', chr(0xA0)))})"
    return _covered(text) if token.is_hidden else text


def _page(sheet: Sheet) -> str:
    width = f"{sheet.width}pt" if sheet.width else "auto"
    return "\n".join(
        [
            f"#set page(width: {width}, height: auto, margin: 24pt, fill: rgb({quoted(sheet.paper)}))",
            f"#set text(font: {_list(sheet.families)}, size: {sheet.size}pt, fill: rgb({quoted(sheet.ink)}))",
            "#set text(fallback: false, cjk-latin-spacing: none)",
            '#show math.equation: set text(font: "New Computer Modern Math")',
            "#set par(leading: 0.75em)",
            "#show heading: it => block(above: 1.2em, below: 0.8em)[#it.body]",
        ]
    )


def _list(names: Sequence[str]) -> str:
    return "(" + ", ".join(map(quoted, names)) + ",)"


def _block(block: Block, sheet: Sheet, hidden: Span | None) -> str:
    def inline(span: Span) -> str:
        return _span(span, sheet, span is hidden)

    match block:
        case Heading():
            size = {1: 1.7, 2: 1.4, 3: 1.15}[block.level]
            stroke = f"0.02em + rgb({quoted(sheet.ink)})"
            return f"#heading(level: {block.level})[#text(size: {size}em, stroke: {stroke})[{inline(block.text)}]]"
        case Paragraph():
            return "#par[" + "".join(map(inline, block.spans)) + "]"
        case Listing():
            kind = "enum" if block.is_numbered else "list"
            return f"#{kind}(" + ", ".join(f"[{inline(item)}]" for item in block.items) + ")"
        case Table():
            cells = [f"[{inline(cell)}]" for row in block.rows for cell in row]
            head = "table.header(" + ", ".join(f"[#strong[{inline(cell)}]]" for cell in block.header) + ")"
            fill = ", fill: (_, y) => if calc.odd(y) { rgb(128, 128, 128, 30) }" if sheet.is_zebra else ""
            line = f"stroke: 0.6pt + rgb({quoted(sheet.ink)})"
            return f"#table(columns: {len(block.header)}, {line}, inset: 6pt{fill}, {head}, {', '.join(cells)})"
        case Formula():
            return f"#align(center)[{inline(block.formula)}]"


def _span(span: Span, sheet: Sheet, is_hidden: bool) -> str:
    text = f"#{quoted(span.text)}"
    grey = "fill: rgb(128, 128, 128, 50), inset: (x: 2pt), outset: (y: 3pt)"
    styled: Mapping[Style, str] = {
        "plain": text,
        "bold": f"#text(stroke: 0.05em + rgb({quoted(sheet.ink)}))[{text}]",
        "italic": f"#box(skew(ax: -14deg)[{text}])",
        "code": f"#box({grey})[#text(font: {_list(sheet.mono)})[{text}]]",
        "formula": f"$display({span.typst})$",
    }
    shown = styled[span.style]
    return _covered(shown) if is_hidden else shown


def _covered(content: str) -> str:
    """A dark bar of the very size of what it hides."""
    return f"#box(fill: rgb(90, 90, 90), outset: (y: 2pt))[#hide[{content}]]"


def render(markup: str, sheet: Sheet, folder: Path) -> bytes:
    """The one page as PNG. Raises ValueError for markup that Typst refuses, which is a fault of this module."""
    import typst

    try:
        page = _compiler(str(folder), os.getpid()).compile(markup.encode(), format="png", ppi=sheet.ppi)
    except typst.TypstError as error:
        raise ValueError(f"Typst refuses the page: {error}") from error
    assert isinstance(page, bytes), "the page is as high as needed"
    return page


@functools.lru_cache(maxsize=2)
def _compiler(folder: str, process: int) -> Any:  # noqa: ARG001 - a fork must not share its parent's
    typst = _typst()
    return typst.Compiler(font_paths=[folder], ignore_system_fonts=True)


def families(folder: Path) -> frozenset[str]:
    """The families that Typst finds in a folder."""
    return frozenset(_typst().Fonts(False, False, [str(folder)]).families())


def _typst() -> Any:
    try:
        import typst
    except ImportError as error:
        raise RecipeError(
            'the format rendered_documents needs the package typst: pip install "keyeforge[data]"'
        ) from error
    return typst
