"""What is written in pictures: passages from a folder of texts, and strings that mean nothing."""

import functools
import random
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_engine.synthesis.wording import Language
from data_engine.words import HAN, LATIN, TABLE_SIZE, tables, traits
from model.visual_tokens import SPECIAL_TOKENS
from strict_yaml import RecipeError

SUFFIXES = frozenset({".txt", ".md", ".rst"})
LATIN_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz"
DIGITS = "23456789"
"""Without I, O, l, 0 and 1: alone they cannot be told from each other."""
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_ENDS = "。！？；，、：,.!?;: "
_EDGES = " \t\"'“”‘’()[]{}<>（）【】《》「」*+-–—=#~^_·•|/\\&$%@"
LINE_ENDS = "。！？；，、：」』）》…"


class Texts:
    """Passages of a folder, by language. Those that hold one of the model's special tokens are left out."""

    def __init__(self, folder: Path, languages: tuple[Language, ...]) -> None:
        found = _passages(_stamp(folder))
        missing = [language for language in languages if not found[language]]
        if missing:
            raise RecipeError(f"{folder}: holds no passage in {', '.join(missing)}; add texts or name other languages")
        self.passages = found

    def take(self, rng: random.Random, language: Language, least: int, most: int) -> str:
        """About `least` to `most` characters that follow each other, from a beginning of a word or clause; less at the
        end of a passage, and nothing now and then."""
        passages = self.passages[language]
        # Long passages are likelier, as all their beginnings are.
        passage = max(rng.choices(passages, k=3), key=len)
        cut = _words if language == "en" else _clauses
        return cut(rng, passage, rng.randint(least, most)).strip(_EDGES)


def _words(rng: random.Random, passage: str, length: int) -> str:
    words = passage.split(" ")
    first = rng.randrange(max(1, len(words) - length // 8))
    text = words[first]
    for word in words[first + 1 :]:
        if len(text) + 1 + len(word) > length:
            break
        text += " " + word
    return text if len(text) <= length else ""


def _clauses(rng: random.Random, passage: str, length: int) -> str:
    starts = [at for at in range(len(passage)) if at == 0 or passage[at - 1] in _ENDS]
    good = [at for at in starts if at + length <= len(passage) and passage[at] not in _ENDS]
    first = rng.choice(good) if good else 0
    cut = passage[first : first + length]
    if re.match("[A-Za-z0-9]", passage[first + length : first + length + 1]):
        cut = re.sub("[A-Za-z0-9]+$", "", cut)  # no half words
    return cut.strip().lstrip(LINE_ENDS)


def nonsense(rng: random.Random, language: Language, length: int, traditional: bool = False) -> str:
    """A string of this length without meaning: made-up words, or common Han characters in no order."""
    if language == "zh":
        return "".join(rng.choices(traditional_characters() if traditional else simplified_characters(), k=length))
    text = ""
    while len(text) < length:
        text += "".join(rng.choices(LATIN_LETTERS + DIGITS, k=rng.randint(2, 8))) + " "
    return text[:length].rstrip()


@functools.cache
def simplified_characters() -> str:
    """The 3,755 characters of the first level of GB 2312, the common ones."""
    return "".join(_decoded("gb2312", range(0xB0, 0xD8), range(0xA1, 0xFF)))


@functools.cache
def traditional_characters() -> str:
    """The 5,401 characters of the first level of Big5."""
    trail = [*range(0x40, 0x7F), *range(0xA1, 0xFF)]
    return "".join(char for char in _decoded("big5", range(0xA4, 0xC7), trail) if "\u4e00" <= char <= "\u9fff")


def _decoded(code: str, lead: range, trail: list[int] | range) -> list[str]:
    pairs = (bytes([first, second]) for first in lead for second in trail)
    return [text for text in (pair.decode(code, "ignore") for pair in pairs) if len(text) == 1]


def traditional(text: str) -> str:
    """The longest piece of the text that has one form only in traditional characters, in these."""
    table = _traditional_forms()
    return max("".join(table.get(char, char) or "\n" for char in text).split("\n"), key=len)


@functools.cache
def _traditional_forms() -> dict[str, str]:
    """Simplified to traditional by the tables of `data_engine.words`; "" where that is not one character."""
    folded, _ = tables()
    points = np.arange(0x4E00, 0xA000)
    changed = points[folded[points] != points]
    forms: dict[str, str] = {}
    for point in changed.tolist():
        char, simple = chr(point), chr(folded[point])
        if char in traditional_characters():
            forms[simple] = "" if simple in forms or simple in traditional_characters() else char
    return forms


def _stamp(folder: Path) -> tuple[tuple[str, int], ...]:
    if not folder.is_dir():
        raise RecipeError(f"{folder}: no such file or folder (of texts); correct the option `texts`")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return tuple((str(path), path.stat().st_mtime_ns) for path in found)


@functools.lru_cache(maxsize=4)
def _passages(stamp: tuple[tuple[str, int], ...]) -> dict[Language, tuple[str, ...]]:
    """Passages of at least eight characters, between blank lines or marks of fortunes, in one line each."""
    found: dict[Language, list[str]] = {"en": [], "zh": []}
    for path, _ in stamp:
        text = _ANSI.sub("", Path(path).read_text(encoding="utf-8", errors="replace"))
        for block in re.split(r"\n\s*\n|\n%\s*\n", unicodedata.normalize("NFC", text)):
            language = _language(block)
            passage = _in_one_line(block, language) if language else ""
            if language and len(passage) >= 8 and _is_plain(passage):
                found[language].append(passage)
    return {language: tuple(passages) for language, passages in found.items()}


def _in_one_line(block: str, language: Language) -> str:
    joined = re.sub(r"\s+", " ", block).strip()
    return re.sub(r"(?<=[\u3000-\u9fff\uff00-\uffef]) | (?=[\u3000-\u9fff\uff00-\uffef])", "", joined) \
        if language == "zh" else joined.replace("…", "...")  # fmt: skip


def _is_plain(passage: str) -> bool:
    is_special = any(token in passage for token in SPECIAL_TOKENS)
    return not is_special and "\ufffd" not in passage and all(char.isprintable() for char in passage)


def _language(text: str) -> Language | None:
    flags = traits()[[ord(char) for char in text if not char.isspace() and ord(char) < TABLE_SIZE]]
    if not len(flags):
        return None
    if (flags & HAN > 0).mean() >= 0.4:
        return "zh"
    return "en" if (flags & LATIN > 0).mean() >= 0.7 else None


def wrap(text: str, width: float, length: Callable[[str], float]) -> list[str]:
    """Lines no wider than `width`: broken at spaces, between Han characters, and never before a closing mark.

    A piece wider than the line by itself is broken inside.
    """
    lines, line = [], ""
    for piece in re.findall(
        r"[\u2e80-\u9fff\uff00-\uffef][" + LINE_ENDS + r"]*|[^\s\u2e80-\u9fff\uff00-\uffef]+|\s+", text
    ):
        if line and length((line + piece).rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece if line or not piece.isspace() else ""
        while length(line.rstrip()) > width and len(line) > 1:
            fits = max(1, next(n for n in range(len(line) - 1, 0, -1) if n == 1 or length(line[:n]) <= width))
            lines.append(line[:fits])
            line = line[fits:]
    return [*lines, line.rstrip()] if line.strip() else lines
