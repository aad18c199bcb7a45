"""Operators on words: quality, language, length and repetition, in English and Chinese alike."""

from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_engine.operators import text_scan
from data_engine.operators.base import Operator, reasons
from data_engine.words import count_letters, count_words, duplicate_share

Code = Annotated[str, Field(pattern="^([a-z]{2}|other|none)$")]


class TextQuality(Operator):
    """Drops text that is not prose: too short, odd word lengths, mostly symbols (Gopher, arXiv 2112.11446, A1).

    Its columns are `web_text`'s, of the same scan. Word lengths are judged only where Han characters are rare:
    Chinese has no spaces to measure by.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("num_words", "mean_word_length", "letter_share", "han_share")
    min_words: int = 8
    min_mean_word_length: float = 2.5
    max_mean_word_length: float = 12.0
    min_letter_share: float = 0.5

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        visible, letters, *_ = count_letters(batch["text"]).T
        scanned = text_scan.scan(batch["text"])
        shared = {name: scanned[name] for name in ("num_words", "mean_word_length", "han_share")}
        return {**shared, "letter_share": pa.array(letters / np.maximum(visible, 1))}

    def decide(self, measures: pa.Table) -> pa.Array:
        spaced = pc.less(measures["han_share"], 0.1)
        length = measures["mean_word_length"]
        return reasons(
            (pc.less(measures["num_words"], self.min_words), "too few words"),
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
    """Keeps targets in the allowed languages; every sample's `language` is told by script (see `languages`).

    With `identify` those in Latin, Cyrillic and other scripts of many languages are told apart by a small model
    (py3langid, 97 languages, two-letter codes): some hundred times slower, and unsure of a few words.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("language",)
    measured_by: ClassVar[tuple[str, ...]] = ("identify",)
    allowed: tuple[Code, ...] = ("en", "zh")
    identify: bool = False

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        return {"language": identified(batch["target"])} if self.identify else {}

    def decide(self, measures: pa.Table) -> pa.Array:
        known = pc.is_in(measures["language"], value_set=pa.array(self.allowed))
        return reasons((pc.invert(known), "language not wanted"))


def languages(text: pa.Array) -> pa.Array:
    """Per text its language as far as its letters tell: `ja`, `ko`, `zh`, `en`, `other`, or `none` (no letter).

    In this order: over a tenth kana, over a fifth hangul, over a fifth Han, over seven tenths Latin. French and
    German are `en` too: only a model can tell (`Language.identify`).
    """
    _, letters, han, latin, _, kana, hangul = count_letters(text).T
    every = np.maximum(letters, 1)
    scripts = (letters == 0, kana / every > 0.1, hangul / every > 0.2, han / every > 0.2, latin / every > 0.7)
    return pa.array(np.select(scripts, ("none", "ja", "ko", "zh", "en"), "other"), pa.string())


def identified(text: pa.Array) -> pa.Array:
    """As `languages`, but what is written in Latin letters or those of `other` is what py3langid takes it for."""
    from py3langid import classify

    by_script = zip(languages(text).to_pylist(), text.to_pylist(), strict=True)
    return pa.array([classify(words)[0] if code in {"en", "other"} else code for code, words in by_script], pa.string())
