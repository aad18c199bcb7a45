"""Leaks planted on purpose: benchmark samples cropped, resized, re-encoded or reworded, and how many are found."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from data_engine import sample as samples
from data_engine.dedup import matching
from data_engine.sample import Media, Part, Sample, assistant, document, user

if TYPE_CHECKING:
    from data_engine.dedup.decontaminate import Item

Pixels = npt.NDArray[np.uint8]
Catch = Callable[[pa.ChunkedArray, Sequence[Sequence[Pixels]]], Mapping[int, str]]
MOST = 200  # items of a language that are planted: enough for two digits


def _crop(pixels: Pixels, random: np.random.Generator) -> Pixels:
    height, width = pixels.shape[:2]
    share = random.uniform(0.82, 0.97)
    h, w = int(height * share), int(width * share)
    top, left = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
    return np.ascontiguousarray(pixels[top : top + h, left : left + w])


def _resize(pixels: Pixels, random: np.random.Generator) -> Pixels:
    scale = random.uniform(0.4, 1.6)
    size = max(8, int(pixels.shape[1] * scale)), max(8, int(pixels.shape[0] * scale))
    return np.asarray(Image.fromarray(pixels).resize(size))


def _encode(pixels: Pixels, random: np.random.Generator) -> Pixels:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=int(random.integers(30, 80)))
    return np.asarray(Image.open(data).convert("RGB"))


PICTURE_EDITS: Mapping[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "crop": _crop,
    "resize": _resize,
    "re-encode": _encode,
}


def edit_words(text: str, random: np.random.Generator) -> str:
    """A light edit: one word in twelve (Chinese: one character) is another's, and white space and case change."""
    spaced = " " in text.strip()
    words = text.split() if spaced else list(text)
    for _ in range(max(1, len(words) // 12)):
        at, other = random.integers(len(words), size=2)
        words[at] = words[other]
    edited = (" " if spaced else "").join(words)
    return edited.upper() if random.random() < 0.3 else edited


@dataclass(frozen=True, slots=True)
class Caught:
    """How many samples were planted, and what share of them was caught; the same for each language there is."""

    planted: int
    share: float
    by_language: Mapping[str, float]


def recall(items: Sequence["Item"], catch: Catch, min_words: int) -> Iterator[tuple[str, Caught]]:
    """Per kind of edit how many of the planted leaks `catch(messages, pictures)` finds."""
    random = np.random.default_rng(0)
    chosen = _some_of_each([item for item in items if item.pictures])
    worded = _some_of_each([item for item in items if not item.pictures and _long_enough(item, min_words)])
    for name, edit in PICTURE_EDITS.items():
        yield from _caught(f"picture: {name}", [(i.texts, [edit(i.pictures[0], random)]) for i in chosen], catch)
    both = [(_reworded(item, random), [_crop(item.pictures[0], random)]) for item in chosen]
    yield from _caught("picture: crop, words: light edit", both, catch)
    yield from _caught("words: as they are", [(item.texts, []) for item in worded], catch)
    yield from _caught("words: light edit", [(_reworded(item, random), []) for item in worded], catch)


def unrelated(items: Sequence["Item"], catch: Catch) -> Caught:
    """How many samples that are no leaks would be dropped: items of another half of the benchmark, as they are.

    An upper bound, for the halves of a benchmark may hold variants of one question.
    """
    chosen = _some_of_each(items)
    found = dict(_caught("", [(item.texts, list(item.pictures[:1])) for item in chosen], catch))
    return found.get("", Caught(0, 0.0, {}))


def is_chinese(texts: Sequence[str]) -> bool:
    """Whether most letters are Han."""
    letters = [letter for text in texts for letter in text if letter.isalpha()]
    return 2 * sum("\u4e00" <= letter <= "\u9fff" for letter in letters) > len(letters)


def _some_of_each(items: Sequence["Item"]) -> list["Item"]:
    """At most MOST items in Chinese and as many others."""
    chinese = [is_chinese(item.texts) for item in items]
    numbers = [[i for i, han in enumerate(chinese) if han == wanted][:MOST] for wanted in (False, True)]
    return [items[i] for i in sorted(numbers[0] + numbers[1])]


def _caught(
    name: str, leaks: Sequence[tuple[Sequence[str], list[Pixels]]], catch: Catch
) -> Iterator[tuple[str, Caught]]:
    """What is caught of these samples (texts, pictures); nothing where there are none."""
    if not leaks:
        return
    table = samples.to_table([_sample(texts, len(pictures)) for texts, pictures in leaks])
    found = catch(table["messages"], [pictures for _, pictures in leaks])
    hit = np.array([row in found for row in range(len(leaks))])
    chinese = np.array([is_chinese(texts) for texts, _ in leaks])
    languages = {"english": ~chinese, "chinese": chinese}
    shares = {language: round(float(hit[of].mean()), 4) for language, of in languages.items() if of.any()}
    yield name, Caught(len(leaks), round(float(hit.mean()), 4), shares)


def _reworded(item: "Item", random: np.random.Generator) -> tuple[str, ...]:
    return tuple(edit_words(text, random) for text in item.texts)


def _long_enough(item: "Item", min_words: int) -> bool:
    return bool((matching.index(list(item.texts), 1, min_words).sizes > 0).any())


def _sample(texts: Sequence[str], num_pictures: int) -> Sample:
    """A sample that says what the benchmark says, beside as many pictures."""
    shown = [Part("image", media=(number,)) for number in range(num_pictures)]
    media = tuple(Media("image", f"planted-{number}") for number in range(num_pictures))
    if len(texts) == 1 and not num_pictures:
        return Sample("planted", "text", "leak", (document(texts[0]),))
    turns = [user(*shown, texts[0]), *(assistant(text) for text in texts[1:])]
    return Sample("planted", "image" if num_pictures else "text", "leak", tuple(turns), media)
