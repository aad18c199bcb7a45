"""Operators on words: quality, language, length and repetition, in English and Chinese alike."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_engine.operators.base import Operator, reasons

_HAN = r"\p{Han}"


def _share(count: pa.Array, total: pa.Array) -> pa.Array:
    return pc.divide(pc.cast(count, pa.float64()), pc.cast(pc.max_element_wise(total, 1), pa.float64()))


def words(text: pa.Array) -> pa.Array:
    """Each text as a list of words; every Han character is a word of its own."""
    spaced = pc.replace_substring_regex(text, rf"({_HAN})", r" \1 ")
    return pc.utf8_split_whitespace(pc.utf8_trim_whitespace(spaced))


class TextQuality(Operator):
    """Drops text that is not prose: too short, odd word lengths, mostly symbols (Gopher, arXiv 2112.11446, A1).

    Word lengths are judged only where Han characters are rare: Chinese has no spaces to measure by.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("prose_words", "prose_mean_word_length", "letter_share", "prose_han_share")
    min_words: int = 8
    min_mean_word_length: float = 2.5
    max_mean_word_length: float = 12.0
    min_letter_share: float = 0.5

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        text = batch["text"]
        length = pc.count_substring_regex(text, r"\S")
        latin_words = pc.count_substring_regex(text, r"[\p{Latin}]+")
        latin_letters = pc.count_substring_regex(text, r"\p{Latin}")
        return {
            "prose_words": pc.list_value_length(words(text)),
            "prose_mean_word_length": _share(latin_letters, latin_words),
            "letter_share": _share(pc.count_substring_regex(text, r"\p{L}"), length),
            "prose_han_share": _share(pc.count_substring_regex(text, _HAN), length),
        }

    def decide(self, measures: pa.Table) -> pa.Array:
        spaced = pc.less(measures["prose_han_share"], 0.1)
        length = measures["prose_mean_word_length"]
        return reasons(
            (pc.less(measures["prose_words"], self.min_words), "too few words"),
            (pc.less(measures["letter_share"], self.min_letter_share), "mostly symbols"),
            (pc.and_(spaced, pc.less(length, self.min_mean_word_length)), "words too short"),
            (pc.and_(spaced, pc.greater(length, self.max_mean_word_length)), "words too long"),
        )


class Length(Operator):
    """Drops a target (the answer or caption) outside a range of words."""

    looks_at: ClassVar[tuple[str, ...]] = ("target_words",)
    min_words: int = 1
    max_words: int = 200

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        return {"target_words": pc.list_value_length(words(batch["target"]))}

    def decide(self, measures: pa.Table) -> pa.Array:
        count = measures["target_words"]
        return reasons(
            (pc.less(count, self.min_words), "target too short"),
            (pc.greater(count, self.max_words), "target too long"),
        )


class Repetition(Operator):
    """Drops targets that repeat themselves: the share of word n-grams seen before (after Gopher's table A1)."""

    looks_at: ClassVar[tuple[str, ...]] = ("duplicate_ngram_share",)
    measured_by: ClassVar[tuple[str, ...]] = ("n",)
    n: int = 3
    max_duplicate_ngram_share: float = 0.3

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        return {"duplicate_ngram_share": pa.array(duplicate_ngram_share(words(batch["target"]), self.n))}

    def decide(self, measures: pa.Table) -> pa.Array:
        share = measures["duplicate_ngram_share"]
        return reasons((pc.greater(share, self.max_duplicate_ngram_share), "repeats itself"))


def duplicate_ngram_share(tokens: pa.Array, n: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Per row: 1 - distinct n-grams / n-grams, 0 for rows shorter than n. One pass over all rows at once."""
    tokens = tokens.combine_chunks() if isinstance(tokens, pa.ChunkedArray) else tokens
    codes = pc.index_in(tokens.flatten(), value_set=pc.unique(tokens.flatten())).to_numpy(zero_copy_only=False)
    lengths = pc.fill_null(pc.list_value_length(tokens), 0).to_numpy(zero_copy_only=False)
    row = np.repeat(np.arange(len(lengths)), lengths)
    count = max(len(codes) - n + 1, 0)
    within = row[:count] == row[n - 1 : n - 1 + count]
    grams = np.stack([row[:count], *(codes[i : i + count] for i in range(n))], axis=1)[within]
    total = np.bincount(grams[:, 0], minlength=len(lengths))
    distinct = np.bincount(np.unique(grams, axis=0)[:, 0], minlength=len(lengths))
    share: np.ndarray[tuple[int], np.dtype[np.float64]] = (
        1.0 - distinct / np.maximum(total, 1) * (total > 0) - (total == 0)
    )
    return share


class Language(Operator):
    """Keeps texts in the allowed languages, told apart by script: `zh` where Han characters are common."""

    looks_at: ClassVar[tuple[str, ...]] = ("language",)
    allowed: tuple[Literal["en", "zh"], ...] = ("en", "zh")

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        text = batch["target"]
        letters = pc.count_substring_regex(text, r"\p{L}")
        han = _share(pc.count_substring_regex(text, _HAN), letters)
        latin = _share(pc.count_substring_regex(text, r"\p{Latin}"), letters)
        other = pc.if_else(pc.greater(latin, 0.7), "en", "other")
        return {"language": pc.if_else(pc.greater(han, 0.2), "zh", pc.if_else(pc.equal(letters, 0), "none", other))}

    def decide(self, measures: pa.Table) -> pa.Array:
        known = pc.is_in(measures["language"], value_set=pa.array(self.allowed))
        return reasons((pc.invert(known), "language not wanted"))
