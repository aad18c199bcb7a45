"""Operators on interleaved documents: garbled text, pictures that cannot be seen, words that do not go with them."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_engine.describe import first_shown, owners
from data_engine.media import MediaStore
from data_engine.operators.base import Operator, reasons
from data_engine.operators.image_text import Scored, pair_scores
from data_engine.words import count_letters

# What no writer means: replacement characters, controls other than tab and line ends, private use, non-characters.
SENSELESS = (
    r"[\x{FFFD}\x{00}-\x{08}\x{0B}\x{0C}\x{0E}-\x{1F}\x{7F}-\x{9F}"
    r"\x{E000}-\x{F8FF}\x{F0000}-\x{10FFFF}\x{FDD0}-\x{FDEF}\x{FFFE}\x{FFFF}]"
)
# UTF-8 read as Windows-1252 or Latin-1: a lead byte's letter and the characters of bytes 80 to BF that it needs.
_TAIL = r"[\x{80}-\x{BF}\x{FFFD}€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
# Of these, what also stands behind a letter in good text: marks, a sign that closes, a space that does not break.
_MARKS = r"\x{A0}«»‘’“”…–—‹›™©®ª°²³¹º"
_RARE = r"[\x{80}-\x{9F}\x{A1}-\x{A8}\x{AC}\x{AD}\x{AF}\x{B1}\x{B4}-\x{B8}\x{BC}-\x{BF}\x{FFFD}€‚ƒ„†‡ˆ‰ŠŒŽ•˜šœžŸ]"
# Three bytes, one of them rare: `“at the café…”` is no mojibake. Beside such a one any three bytes are.
_THREE = rf"(?:[à-ï]{_TAIL}{{2}})*[à-ï](?:{_RARE}{_TAIL}|{_TAIL}{_RARE})(?:[à-ï]{_TAIL}{{2}})*"
_FOUR = rf"ð(?:{_RARE}{_TAIL}{{2}}|{_TAIL}{_RARE}{_TAIL}|{_TAIL}{{2}}{_RARE})"
# And in Chinese: UTF-8's replacement character, or memory that was never written, read as GBK.
GARBLED = rf"{_FOUR}|{_THREE}|[ÂÃÐÑÎÏ]{_TAIL}|锟斤拷|烫烫烫|屯屯屯|{SENSELESS}"
# A word in capitals that ends in such a letter, and the mark behind it (`MAÇÃ”`): kept in what is left.
_CAPITALS = rf"(\p{{Lu}}[ÂÃÐÑÎÏ][{_MARKS}](?:[^\p{{L}}]|$))"


class Garbled(Operator):
    """Drops text with a share of characters that no writer means: U+FFFD, controls, private use, mojibake."""

    looks_at: ClassVar[tuple[str, ...]] = ("garbled_share",)
    max_share: float = 0.001

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        return {"garbled_share": garbled_share(batch["text"])}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.greater(measures["garbled_share"], self.max_share), "garbled text"))


class Interleaved(Operator):
    """Drops documents with broken, small or unordered pictures, or with too few or too many words for a picture.

    In order: the parts show the sample's media one after the other; one that was shown may be shown again. Samples
    without media break no rule.
    """

    looks_at: ClassVar[tuple[str, ...]] = (
        *("interleaved_broken", "interleaved_min_side", "interleaved_images"),
        *("interleaved_letters_per_image", "interleaved_in_order"),
    )
    max_broken: int = 0
    min_side: int = 32
    max_images: int = 64
    min_letters_per_image: float = 0.0
    max_letters_per_image: float = 20_000.0

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        pictures = batch["pictures"].combine_chunks()
        row, seen = owners(pictures), pictures.flatten()
        broken = np.bincount(row[seen.is_null().to_numpy(zero_copy_only=False)], minlength=len(batch))
        count = np.bincount(row, minlength=len(batch))
        letters = count_letters(batch["text"])[:, 0]
        shown = count > 0
        return {
            "interleaved_images": pa.array(count),
            "interleaved_broken": pa.array(broken),
            "interleaved_min_side": _smallest_side(seen, row, len(batch)),
            "interleaved_letters_per_image": pa.array(letters / np.maximum(count, 1), mask=~shown),
            "interleaved_in_order": pa.array(in_order(batch["messages"], batch["media"])),
        }

    def decide(self, measures: pa.Table) -> pa.Array:
        letters = measures["interleaved_letters_per_image"]
        return reasons(
            (pc.greater(measures["interleaved_broken"], self.max_broken), "picture does not open"),
            (pc.less(measures["interleaved_min_side"], self.min_side), "picture too small"),
            (pc.greater(measures["interleaved_images"], self.max_images), "too many pictures"),
            (pc.less(letters, self.min_letters_per_image), "too few words for its pictures"),
            (pc.greater(letters, self.max_letters_per_image), "too few pictures for its words"),
            (pc.invert(measures["interleaved_in_order"]), "pictures out of order"),
        )


class InterleavedMatch(Scored):
    """Drops documents whose pictures do not go with the words beside them.

    The measure is the mean over a document's images of the better similarity with the text right before and right
    after, -1 to 1; null where no image has text beside it.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("interleaved_match",)

    def measure_media(self, batch: pa.Table, store: MediaStore) -> dict[str, pa.Array]:
        rows = [beside(*row) for row in zip(batch["messages"].to_pylist(), batch["media"].to_pylist(), strict=True)]
        found = pair_scores(self.model, [pair for images in rows for pair in images], store)
        best = iter([max(scores, default=None) for scores in found])
        means = [_mean([score for _ in images if (score := next(best)) is not None]) for images in rows]
        return {"interleaved_match": pa.array(means, pa.float64())}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((self.falls_short(measures), "pictures and the words beside them do not match"))


def garbled_share(text: pa.ChunkedArray) -> pa.Array:
    """Share of the characters of each text that are senseless or in mojibake, 0 to 1; 0 for an empty text."""
    left = pc.cast(pc.utf8_length(pc.replace_substring_regex(text, f"{_CAPITALS}|{GARBLED}", r"\1")), pa.float64())
    total = pc.cast(pc.utf8_length(text), pa.float64())
    return pc.if_else(pc.equal(total, 0), 0.0, pc.subtract(1.0, pc.divide(left, pc.max_element_wise(total, 1.0))))


def ungarbled(text: pa.Array) -> pa.Array:
    """The texts without the characters that no writer means; mojibake stays, since taking it out would cut words."""
    return pc.replace_substring_regex(text, SENSELESS, "")


def in_order(messages: pa.ChunkedArray, media: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Per sample: do its parts show media 0, 1, 2, ... to the last, apart from those shown again?"""
    turns = messages.combine_chunks()
    parts = turns.flatten().field("parts")
    shown = parts.flatten().field("media")
    row = owners(turns)[owners(parts)][owners(shown)]
    index = shown.flatten().to_numpy(zero_copy_only=False)
    new = first_shown(row, index)
    row, index = row[new], index[new]
    count = np.bincount(row, minlength=len(messages))
    expected = np.arange(len(row)) - (np.cumsum(count) - count)[row]
    wrong = np.bincount(row[index != expected], minlength=len(messages))
    held = pc.fill_null(pc.list_value_length(media), 0).to_numpy()
    ordered: npt.NDArray[np.bool_] = (wrong == 0) & (count == held)
    return ordered


def beside(messages: Sequence[dict[str, Any]], media: Sequence[dict[str, Any]]) -> list[list[tuple[str, str]]]:
    """Per image of a document, in order, its pairs of (key, text) with the nearest text before and after it."""
    parts = [part for message in messages for part in message["parts"]]
    found = []
    for place, part in enumerate(parts):
        if part["kind"] == "image" and media[part["media"][0]].get("start") is None:
            before, after = _nearest(parts[place::-1]), _nearest(parts[place:])
            found.append([(media[part["media"][0]]["key"], text) for text in (before, after) if text])
    return found


def _nearest(parts: Sequence[dict[str, Any]]) -> str | None:
    return next((part["text"].strip() for part in parts if (part["text"] or "").strip()), None)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _smallest_side(seen: pa.StructArray, row: npt.NDArray[np.int64], num_rows: int) -> pa.Array:
    sides = np.fmin(
        *(
            pc.cast(pc.struct_field(seen, side), pa.float64()).to_numpy(zero_copy_only=False)
            for side in ("width", "height")
        )
    )
    smallest = np.full(num_rows, np.inf)
    np.fmin.at(smallest, row, sides)
    return pa.array(smallest, mask=np.isinf(smallest))
