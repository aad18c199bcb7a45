"""Web text by the published rules of Gopher, C4 and FineWeb, each a verdict over the one scan of `text_scan`."""

from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_engine.operators import text_scan
from data_engine.operators.base import Operator, reasons
from strict_yaml import Strict

Rule = Literal["gopher_quality", "gopher_repetition", "c4", "fineweb"]
Broken = list[tuple[pa.Array, str]]


class Thresholds(Strict):
    """The published bounds (Gopher, arXiv 2112.11446, table A1; C4, 1910.10683, 2.2; FineWeb, 2406.17557, 3.6)."""

    min_words: int = 50
    max_words: int = 100_000
    min_mean_word_length: float = 3.0
    max_mean_word_length: float = 10.0
    max_hash_share: float = 0.1
    max_ellipsis_share: float = 0.1
    max_bullet_lines: float = 0.9
    max_ellipsis_lines: float = 0.3
    min_alpha_words: float = 0.8
    min_stop_words: int = 2
    max_duplicate_lines: float = 0.3
    max_duplicate_line_chars: float = 0.2
    max_duplicate_paragraphs: float = 0.3
    max_duplicate_paragraph_chars: float = 0.2
    max_top_grams: tuple[float, float, float] = (0.20, 0.18, 0.16)
    max_duplicate_grams: tuple[float, float, float, float, float, float] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)
    min_sentences: int = 5
    max_word_length: int = 1000
    curly_brackets: bool = False
    min_ending_lines: float = 0.12
    max_short_lines: float = 0.67
    max_line_duplicate_chars: float = 0.01
    max_newlines_per_word: float = 0.3


# Where most letters are Han a word is one character: longer texts, no word length, and n-grams that repeat more
# easily. These bounds are our choice; Gopher and FineWeb give none for Chinese.
HAN = Thresholds(
    min_words=80,
    max_words=200_000,
    min_mean_word_length=1.0,
    max_top_grams=(0.15, 0.12, 0.10),
    max_duplicate_grams=(0.25, 0.24, 0.23, 0.22, 0.21, 0.20),
    min_sentences=3,
    max_newlines_per_word=0.15,
)


class WebText(Operator):
    """Drops text that breaks a rule of the chosen sets. Lines are judged as a whole: nothing is cut out of a text.

    `han` holds where more than `min_han_share` of the characters are Han.
    """

    looks_at: ClassVar[tuple[str, ...]] = text_scan.COLUMNS
    rules: tuple[Rule, ...] = Field(default=("gopher_quality", "gopher_repetition", "fineweb"), min_length=1)
    spaced: Thresholds = Thresholds()
    han: Thresholds = HAN
    min_han_share: float = Field(default=0.3, ge=0, le=1)

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        return text_scan.scan(batch["text"])

    def decide(self, measures: pa.Table) -> pa.Array:
        is_han = pc.greater(measures["han_share"], self.min_han_share)
        spaced, han = (reasons(*self._broken(measures, bounds)) for bounds in (self.spaced, self.han))
        return pc.if_else(is_han, han, spaced)

    def _broken(self, measures: pa.Table, bounds: Thresholds) -> Broken:
        return [broken for rule in self.rules for broken in _RULES[rule](measures, bounds)]


def _outside(measures: pa.Table, *rules: tuple[str, str, float, str]) -> Broken:
    compare = {"<": pc.less, ">": pc.greater}
    return [(compare[sign](measures[column], bound), reason) for column, sign, bound, reason in rules]


def _gopher_quality(measures: pa.Table, bounds: Thresholds) -> Broken:
    return _outside(
        measures,
        ("num_words", "<", bounds.min_words, "gopher: too few words"),
        ("num_words", ">", bounds.max_words, "gopher: too many words"),
        ("mean_word_length", "<", bounds.min_mean_word_length, "gopher: words too short"),
        ("mean_word_length", ">", bounds.max_mean_word_length, "gopher: words too long"),
        ("hash_share", ">", bounds.max_hash_share, "gopher: too many hashes"),
        ("ellipsis_share", ">", bounds.max_ellipsis_share, "gopher: too many ellipses"),
        ("bullet_line_share", ">", bounds.max_bullet_lines, "gopher: mostly bullets"),
        ("ellipsis_line_share", ">", bounds.max_ellipsis_lines, "gopher: lines end in ellipses"),
        ("alpha_word_share", "<", bounds.min_alpha_words, "gopher: too few words with letters"),
        ("stop_words", "<", bounds.min_stop_words, "gopher: too few stop words"),
    )


def _gopher_repetition(measures: pa.Table, bounds: Thresholds) -> Broken:
    grams = [
        *zip(text_scan.TOP_GRAMS, bounds.max_top_grams, ["top"] * 3, strict=True),
        *zip(text_scan.DUPLICATE_GRAMS, bounds.max_duplicate_grams, ["duplicate"] * 6, strict=True),
    ]
    return _outside(
        measures,
        ("duplicate_paragraph_share", ">", bounds.max_duplicate_paragraphs, "gopher: repeated paragraphs"),
        ("duplicate_paragraph_chars", ">", bounds.max_duplicate_paragraph_chars, "gopher: repeated paragraphs"),
        ("duplicate_line_share", ">", bounds.max_duplicate_lines, "gopher: repeated lines"),
        ("duplicate_line_chars", ">", bounds.max_duplicate_line_chars, "gopher: repeated lines"),
        *((f"{kind}_{n}gram_chars", ">", bound, f"gopher: {kind} {n}-gram") for n, bound, kind in grams),
    )


def _c4(measures: pa.Table, bounds: Thresholds) -> Broken:
    brackets = 0.5 if not bounds.curly_brackets else float("inf")
    return _outside(
        measures,
        ("num_sentences", "<", bounds.min_sentences, "c4: too few sentences"),
        ("longest_word", ">", bounds.max_word_length, "c4: word too long"),
        ("curly_brackets", ">", brackets, "c4: curly bracket"),
        ("lorem_ipsum", ">", 0.5, "c4: lorem ipsum"),
    )


def _fineweb(measures: pa.Table, bounds: Thresholds) -> Broken:
    return _outside(
        measures,
        ("ending_line_share", "<", bounds.min_ending_lines, "fineweb: lines do not end"),
        ("short_line_share", ">", bounds.max_short_lines, "fineweb: short lines"),
        ("duplicate_line_chars", ">", bounds.max_line_duplicate_chars, "fineweb: repeated lines"),
        ("newlines_per_word", ">", bounds.max_newlines_per_word, "fineweb: list"),
    )


_RULES = {
    "gopher_quality": _gopher_quality,
    "gopher_repetition": _gopher_repetition,
    "c4": _c4,
    "fineweb": _fineweb,
}
