"""Operators on words: quality, language, length and repetition, in English and Chinese alike."""

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_engine.operators.base import Operator, reasons
from data_engine.words import count_letters, count_words, duplicate_share


def _share(count: npt.NDArray[np.int64], total: npt.NDArray[np.int64]) -> pa.Array:
    return pa.array(count / np.maximum(total, 1))


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
        visible, letters, han, latin, latin_runs = count_letters(batch["text"]).T
        return {
            "prose_words": pa.array(count_words(batch["text"])),
            "prose_mean_word_length": _share(latin, latin_runs),
            "letter_share": _share(letters, visible),
            "prose_han_share": _share(han, visible),
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
        return {"target_words": pa.array(count_words(batch["target"]))}

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
        return {"duplicate_ngram_share": pa.array(duplicate_share(batch["target"], self.n))}

    def decide(self, measures: pa.Table) -> pa.Array:
        share = measures["duplicate_ngram_share"]
        return reasons((pc.greater(share, self.max_duplicate_ngram_share), "repeats itself"))


class Language(Operator):
    """Keeps targets in the allowed languages; every sample's `language` is measured (see `languages`)."""

    looks_at: ClassVar[tuple[str, ...]] = ("language",)
    allowed: tuple[Literal["en", "zh"], ...] = ("en", "zh")

    def decide(self, measures: pa.Table) -> pa.Array:
        known = pc.is_in(measures["language"], value_set=pa.array(self.allowed))
        return reasons((pc.invert(known), "language not wanted"))


def languages(text: pa.Array) -> pa.Array:
    """Per text `zh` (over a fifth of the letters are Han), `en` (most are Latin), `other`, or `none` (no letter)."""
    _, letters, han, latin, _ = count_letters(text).T
    share = np.maximum(letters, 1)
    found = np.where(latin / share > 0.7, "en", "other")
    return pa.array(np.where(letters == 0, "none", np.where(han / share > 0.2, "zh", found)), pa.string())
