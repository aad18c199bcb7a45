"""Pieces of real source files, coloured by pygments for the typesetter."""

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_engine.synthesis.backgrounds import contrast, luminance
from data_engine.synthesis.fonts import Face
from data_engine.synthesis.typeset import Token
from model.visual_tokens import SPECIAL_TOKENS
from strict_yaml import RecipeError

MAX_COLUMNS = 88
MIN_CODE_CONTRAST = 3.0
"""Themes set comments fainter than text; below this (WCAG's bound for large text) they give way to plain ink."""
STYLES = ("default", "monokai", "friendly", "solarized-light", "vs", "nord", "gruvbox-dark", "tango")


@dataclass(frozen=True, slots=True)
class Code:
    """Lines that follow each other in a file, and the name of their language."""

    language: str
    lines: tuple[str, ...]


def files(folder: Path) -> tuple[Path, ...]:
    """The files below a folder whose language pygments knows by their names. Raises RecipeError for none."""
    every = folder.rglob("*") if folder.is_dir() else ()
    found = sorted(path for path in every if path.is_file() and _lexer(_kind(path)))
    if not found:
        raise RecipeError(f"{folder}: no folder with source code; correct the option `code` or leave code out of num")
    return tuple(found)


def _kind(path: Path) -> str:
    """A name that stands for all files with the suffix."""
    return f"x{path.suffix}" if path.suffix else path.name


@functools.lru_cache(maxsize=512)
def _lexer(name: str) -> Any:
    from pygments.lexers import get_lexer_for_filename
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_for_filename(name, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None
    return None if lexer.name == "Text only" else lexer


def take(rng: random.Random, found: Sequence[Path], faces: Sequence[Face], least: int, most: int) -> tuple[Path, Code]:
    """A piece of one of the files, dedented, without empty lines at its ends, that the fonts can write whole.

    Raises ValueError where two hundred draws have none.
    """
    for _ in range(200):
        path = rng.choice(found)
        lines = _lines(str(path), path.stat().st_mtime_ns)
        first = rng.randrange(max(1, len(lines) - least))
        piece = _dedented(lines[first : first + rng.randint(least, most)])
        if len(piece) >= least and _is_plain(piece) and _is_covered(piece, faces):
            return path, Code(_lexer(_kind(path)).name, tuple(piece))
    raise ValueError("the source files have no piece that the fonts can write")


@functools.lru_cache(maxsize=256)
def _lines(path: str, modified: int) -> tuple[str, ...]:  # noqa: ARG001 - key of the cache
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    return tuple(line.expandtabs(4).rstrip() for line in text.splitlines())


def _dedented(lines: Sequence[str]) -> list[str]:
    kept = list(lines)
    while kept and not kept[0]:
        kept.pop(0)
    while kept and not kept[-1]:
        kept.pop()
    shift = min((len(line) - len(line.lstrip()) for line in kept if line), default=0)
    return [line[shift:] for line in kept]


def _is_plain(lines: Sequence[str]) -> bool:
    text = "\n".join(lines)
    is_special = "____" in text or any(token in text for token in SPECIAL_TOKENS)
    return (
        not is_special
        and all(len(line) <= MAX_COLUMNS and line.isprintable() for line in lines)
        and "\ufffd" not in text
    )


def _is_covered(lines: Sequence[str], faces: Sequence[Face]) -> bool:
    return all(any(face.covers(char) for face in faces) for char in set("".join(lines)))


def coloured(
    code: Code, path: Path, style: str, hidden: tuple[int, int, int] | None = None
) -> tuple[list[list[Token]], str]:
    """Lines of tokens in a style of pygments, and its background.

    `hidden`: line, first column and the column after the last that a bar covers.
    """
    from pygments.styles import get_style_by_name
    from pygments.token import Token as Kind

    known = get_style_by_name(style)
    lines: list[list[Token]] = [[] for _ in code.lines]
    at, column = 0, 0
    plain = known.style_for_token(Kind)["color"]
    for kind, text in _lexer(_kind(path)).get_tokens("\n".join(code.lines)):
        looks = known.style_for_token(_styled(kind, known))
        for piece in text.splitlines(keepends=True):
            words = piece.rstrip("\n")
            if words and at < len(lines):
                colour = _legible(looks["color"], plain, known.background_color)
                lines[at] += _cut(words, colour, looks["bold"], column, hidden if hidden and hidden[0] == at else None)
            column += len(words)
            if piece.endswith("\n"):
                at, column = at + 1, 0
    return lines, known.background_color


def _legible(colour: str | None, plain: str | None, paper: str) -> str:
    """The colour, or that of plain text, or black or white: the first that can be read on the paper."""
    light = _light(paper)
    choices = [f"#{one}" for one in (colour, plain) if one]
    good = [one for one in choices if contrast(_light(one), light) >= MIN_CODE_CONTRAST]
    return good[0] if good else ("#000000" if light > 0.18 else "#ffffff")


def _light(colour: str) -> float:
    full = colour.lstrip("#")
    full = "".join(2 * digit for digit in full) if len(full) == 3 else full
    return float(luminance(np.array([int(full[at : at + 2], 16) for at in (0, 2, 4)], np.uint8)))


def _styled(kind: Any, style: Any) -> Any:
    """The token's kind, or the nearest above it that the style knows."""
    while kind.parent is not None and not _knows(style, kind):
        kind = kind.parent
    return kind


def _knows(style: Any, kind: Any) -> bool:
    try:
        return bool(style.style_for_token(kind))
    except KeyError:
        return False


def _cut(words: str, colour: str, is_bold: bool, column: int, hidden: tuple[int, int, int] | None) -> list[Token]:
    """A token, cut where the bar begins and ends."""
    if hidden is None:
        return [Token(words, colour, is_bold)]
    first, last = (min(max(bound - column, 0), len(words)) for bound in hidden[1:])
    pieces = ((words[:first], False), (words[first:last], True), (words[last:], False))
    return [Token(text, colour, is_bold, is_hidden) for text, is_hidden in pieces if text]
