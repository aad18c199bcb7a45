"""Leaks planted on purpose: benchmark samples cropped, resized, re-encoded or reworded, and how many are found."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from data_engine import image_measures
from data_engine import sample as samples
from data_engine.dedup import matching
from data_engine.sample import Media, Part, Sample, assistant, document, user

if TYPE_CHECKING:
    from data_engine.dedup.decontaminate import Item

Pixels = npt.NDArray[np.uint8]
MOST = 200  # items that are planted: enough for two digits


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


def recall(
    items: Sequence["Item"], catch: Callable[[pa.ChunkedArray, pa.ChunkedArray], Mapping[int, str]], min_words: int
) -> dict[str, dict[str, float]]:
    """Per kind of edit: how many leaks were planted, and the share that `catch(messages, hashes)` finds."""
    random = np.random.default_rng(0)
    result: dict[str, dict[str, float]] = {}
    for name, found in _leaks(items, min_words, random).items():
        if found:
            table = samples.to_table([sample for sample, _ in found])
            hashes = pa.chunked_array([pa.array([value for _, value in found], pa.list_(pa.uint64()))])
            caught = len(catch(table["messages"], hashes))
            result[name] = {"planted": len(found), "recall": round(caught / len(found), 4)}
    return result


def _leaks(
    items: Sequence["Item"], min_words: int, random: np.random.Generator
) -> dict[str, list[tuple[Sample, list[int]]]]:
    pictured = [item for item in items if item.pictures][:MOST]
    worded = [item for item in items if not item.pictures and _long_enough(item, min_words)][:MOST]
    found = {
        f"picture: {name}": [
            (_sample(item.texts, 1), [image_measures.phash(edit(item.pictures[0], random))]) for item in pictured
        ]
        for name, edit in PICTURE_EDITS.items()
    }
    found["words: as they are"] = [(_sample(item.texts, 0), []) for item in worded]
    found["words: light edit"] = [
        (_sample(tuple(edit_words(text, random) for text in item.texts), 0), []) for item in worded
    ]
    return found


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
