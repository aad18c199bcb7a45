"""Documents grown as `grown.rows` grows rows: with planted near copies, or laid out in lines and then damaged."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from grown import rows as grown

Ints = npt.NDArray[np.int64]
Layout = Callable[[list[str], str], str]


def documents(ground: grown.Soil, chinese: bool, count: int, seed: int) -> tuple[pa.Array, Ints]:
    """Texts, a tenth of them copies of another with one to three words changed; of which each is a copy (or itself)."""
    random = np.random.default_rng(seed)
    tongue = ground.languages[int(chinese)]
    copy = random.random(count) < 0.1
    copy[0] = False
    of = np.where(copy, random.choice(np.flatnonzero(~copy), count), np.arange(count))
    length = random.integers(80, 260, count)[of]
    seeds = random.integers(0, 1 << 62, count)[of]
    starts = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    ids = _walks(tongue, starts, seeds)
    for row in np.flatnonzero(copy):
        places = starts[row] + random.integers(length[row], size=int(random.integers(1, 4)))
        ids[places] = random.integers(len(tongue.words), size=len(places))
    return _texts(tongue, starts, ids), of


def pages(ground: grown.Soil, chinese: bool, count: int, seed: int) -> tuple[list[str], list[str]]:
    """(texts of about a kilobyte in lines and paragraphs, how each was damaged); six in ten are not."""
    random = np.random.default_rng(seed)
    tongue = ground.languages[int(chinese)]
    starts = np.concatenate([[0], np.cumsum(random.integers(140, 300, count))]).astype(np.int64)
    plain = _texts(tongue, starts, _walks(tongue, starts, random.integers(0, 1 << 62, count))).to_pylist()
    names = ["none", *LAYOUTS]
    chosen = random.choice(len(names), count, p=[0.6, *[0.4 / len(LAYOUTS)] * len(LAYOUTS)])
    end, glue = (r"(?<=[。？！])", "") if chinese else (r"(?<=[.?!]) ", " ")
    laid = []
    for text, which in zip(plain, chosen, strict=True):
        sentences = re.split(end, text + ("。" if chinese else "."))
        laid.append(LAYOUTS.get(names[which], _paragraphs)([s for s in sentences if s], glue))
    return laid, [names[which] for which in chosen]


def _walks(tongue: grown.Language, starts: Ints, seeds: npt.NDArray[Any]) -> Ints:
    none = np.zeros(len(seeds), np.int64)
    found: Ints = grown._walk(
        starts, seeds, none > 0, none, tongue.text, tongue.first, tongue.places, len(tongue.words)
    )
    return found


def _texts(tongue: grown.Language, starts: Ints, ids: Ints) -> pa.Array:
    lists = pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), tongue.words.take(pa.array(ids)))
    return pc.binary_join(lists, tongue.glue)


def _paragraphs(sentences: list[str], glue: str) -> str:
    """Two sentences a line, two lines a paragraph."""
    lines = [glue.join(sentences[at : at + 2]) for at in range(0, len(sentences), 2)]
    return "\n\n".join("\n".join(lines[at : at + 2]) for at in range(0, len(lines), 2))


def _after_words(every: int, mark: str) -> Layout:
    """The mark after so many words (in Chinese as many characters)."""

    def lay(sentences: list[str], glue: str) -> str:
        words = glue.join(sentences).split(glue) if glue else list("".join(sentences))
        chunks = [glue.join(words[at : at + every]) for at in range(0, len(words), every)]
        return mark.join(chunks)

    return lay


def _phrase_again(sentences: list[str], glue: str) -> str:
    """One phrase between any two sentences."""
    phrase = sentences[0][:40] + glue
    return "\n".join(phrase + one for one in sentences)


LAYOUTS: dict[str, Layout] = {
    "short lines": _after_words(4, "\n"),
    "hashes": _after_words(5, " # "),
    "ellipses": _after_words(6, "... "),
    "numbers": _after_words(2, " 2024 73 "),
    "cut short": lambda sentences, glue: glue.join(sentences)[:120],
    "no ends": lambda sentences, glue: "\n".join(re.sub(r"[.?!。？！]", "", one) for one in sentences),
    "bullets": lambda sentences, glue: "\n".join(f"- {one}" for one in sentences),
    "lines end in ellipses": lambda sentences, glue: "\n".join(f"{one[:-1]}..." for one in sentences),
    "repeated lines": lambda sentences, glue: "\n".join([*sentences, *sentences[:2] * 3]),
    "repeated paragraphs": lambda sentences, glue: "\n\n".join([_paragraphs(sentences, glue)] * 3),
    "repeated phrase": _phrase_again,
    "braces": lambda sentences, glue: _paragraphs(sentences, glue) + "\nif (x) { return; }.",
    "lorem ipsum": lambda sentences, glue: "Here is Lorem ipsum dolor sit amet.\n" + _paragraphs(sentences, glue),
}
