"""Raw instruction rows by the million, grown from the demo's corpora, with every planted fault known.

The words are real: each row is a random walk through the corpora from word to following word (in Chinese from
character to character), so that phrases repeat as they do in written language. Of each row its kind is recorded:
`base`, `exact` and `near` (of which row), `leak` (of which benchmark question), `easy`, `broken`.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Ints = npt.NDArray[np.int64]
CHUNK = 50_000
FILES = 2  # a chunk's rows go to files by turns, so that a copy and its original are far apart
NUM_TYPES = 82_000
KINDS = ("base", "exact", "near", "leak", "easy", "broken")
SHARES = (0.795, 0.08, 0.07, 0.005, 0.04, 0.01)
BROKEN = (
    b'{"conversations": [{"from": "human", "value": "cut off in the mid',
    b'{"conversations": [{"from": "robot", "value": "who?"}, {"from": "gpt", "value": "me"}]}',
    b'{"conversations": "not a list"}',
    b'["an array", "no object"]',
    b'{"conversations": [{"from": "human", "value": "bad \xff\xfe bytes"}, {"from": "gpt", "value": "x"}]}',
    b'{"image": "images/none.png", "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "x"}]}',
    b'{"conversations": [{"from": "human", "value": "NUL \\u0000"}, {"from": "gpt", "value": "x"}]}',
    b'{"conversations": [{"from": "human", "value": "no answer"}]}',
)


@dataclass(frozen=True, slots=True)
class Language:
    """A text as a walk sees it: its words in order, and for each word the places where it stands."""

    words: pa.Array
    text: Ints
    first: Ints
    places: Ints
    glue: str


@dataclass(frozen=True, slots=True)
class Soil:
    """What rows grow from."""

    languages: tuple[Language, Language]
    images: pa.Array
    types: pa.Array
    leaks: pa.Array


def language(text: str, pattern: str, glue: str) -> Language:
    found = pa.array(re.findall(pattern, text)).dictionary_encode()
    codes = found.indices.to_numpy().astype(np.int64)
    order = np.argsort(codes[:-1], kind="stable")  # the last word has none after it
    first = np.searchsorted(codes[:-1][order], np.arange(len(found.dictionary) + 1))
    return Language(found.dictionary, codes, first.astype(np.int64), order.astype(np.int64), glue)


def soil(corpora: Path) -> Soil:
    """The demo's texts as two languages, its pictures, type names of real words, the benchmark's questions."""
    texts = {name: next((corpora / "text" / name).glob("*.txt")).read_text(encoding="utf-8") for name in ("en", "zh")}
    champ = [json.loads(line) for line in (corpora / "champ/champ.jsonl").read_text(encoding="utf-8").splitlines()]
    spoken = " ".join(turn["value"] for row in champ for turn in row["conversations"])
    stamps = sorted((corpora / "stamps").rglob("*.txt"))
    captions = " ".join(path.read_text(encoding="utf-8").partition("\n")[0] for path in stamps)  # English comes first
    english = language(f"{texts['en']} {spoken} {captions}", r"[A-Za-z][A-Za-z'-]*[,.;:?!]?", " ")
    chinese = language(texts["zh"], r"[\u4e00-\u9fff，。；：？！]", "")
    images = [str(path.relative_to(corpora)) for path in sorted((corpora / "easy_vqa/images").glob("*.png"))]
    return Soil(
        (english, chinese),
        pa.array(images),
        pa.array(type_names(english.words.to_pylist())),
        pa.array([json.dumps(row["conversations"][0]["value"], ensure_ascii=False)[1:-1] for row in champ]),
    )


def type_names(words: Sequence[str]) -> list[str]:
    """Paths of three levels: 20 fields, 41 skills, and what it is about."""
    plain = sorted({word.lower() for word in words if word.isalpha() and len(word) > 3})
    fields, skills, topics = plain[:20], plain[20:61], plain[61:]
    return [
        f"{fields[i % 20]}/{skills[i // 20 % 41]}/{topics[i // 820 % len(topics)]}-{i // 820}" for i in range(NUM_TYPES)
    ]


def grow(ground: Soil, chunk: int, rows: int, folder: Path) -> None:
    """Writes one chunk: `raw/<n>/chunk-….jsonl` and, last, the truth `truth/chunk-….parquet`; not again if there."""
    known = folder / "truth" / f"chunk-{chunk:05d}.parquet"
    if known.exists():
        return
    random = np.random.default_rng([20251123, chunk])
    kind = random.choice(len(KINDS), rows, p=SHARES)
    kind[0] = 0
    base = np.flatnonzero(kind == 0)
    of = np.where(np.isin(kind, (1, 2)), random.choice(base, rows), np.arange(rows))
    source = of  # a copy looks like what it copies
    in_chinese = (random.random(rows) < 0.3)[source]
    words = _texts(ground, random, rows, source, kind, in_chinese)
    leaked = random.integers(len(ground.leaks), size=rows)
    question = pc.if_else(pa.array(kind == 3), ground.leaks.take(pa.array(leaked)), words[0])
    lines = _lines(ground, random, rows, chunk, kind, source, question, words[1])
    for number in range(FILES):
        target = folder / "raw" / str(number) / f"chunk-{chunk:05d}.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"\n".join(lines[number::FILES]) + b"\n")
    truth = pa.table({"row": chunk * CHUNK + np.arange(rows), "kind": pa.array([KINDS[k] for k in kind])})
    truth = truth.append_column("of", pa.array(chunk * CHUNK + of))
    known.parent.mkdir(exist_ok=True)
    pq.write_table(truth, known.with_suffix(".writing"))
    known.with_suffix(".writing").replace(known)


def _texts(
    ground: Soil, random: np.random.Generator, rows: int, source: Ints, kind: Ints, chinese: npt.NDArray[np.bool_]
) -> list[pa.Array]:
    """(questions, answers), each a walk; copies copy, near copies with a word in the answer changed."""
    found = []
    for low, high, change in ((10, 28, False), (45, 90, True)):
        length = random.integers(low, high, rows)[source]
        seeds = random.integers(0, 1 << 62, rows)[source]
        texts = pa.nulls(rows, pa.string())
        for which, tongue in enumerate(ground.languages):
            mine = np.flatnonzero(chinese == bool(which))
            size = length[mine] * (2 if which else 1)
            starts = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
            edits = seeds[mine] + kind[mine] if change else np.zeros(len(mine), np.int64)
            edited = change & (kind[mine] == 2)
            ids = _walk(starts, seeds[mine], edited, edits, tongue.text, tongue.first, tongue.places, len(tongue.words))
            lists = pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), tongue.words.take(pa.array(ids)))
            place = np.full(rows, -1)
            place[mine] = np.arange(len(mine))
            texts = pc.coalesce(texts, pc.binary_join(lists, tongue.glue).take(pa.array(place, mask=place < 0)))
        found.append(texts)
    return found


@numba.njit(cache=True)
def _walk(starts, seeds, edited, edits, text, first, places, num_words):  # type: ignore[no-untyped-def]
    """Word after word: from each to what follows it at one of the places where it stands."""
    result = np.empty(starts[-1], np.int64)
    for row in range(len(seeds)):
        state = np.uint64(seeds[row])
        word = text[state % np.uint64(len(text) - 1)]
        for at in range(starts[row], starts[row + 1]):
            result[at] = word
            state = (state ^ (state >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) + np.uint64(0x9E3779B97F4A7C15)
            options = first[word + 1] - first[word]
            if options == 0:
                word = text[(state >> np.uint64(11)) % np.uint64(len(text) - 1)]
            else:
                word = text[places[first[word] + np.int64((state >> np.uint64(11)) % np.uint64(options))] + 1]
        if edited[row]:
            turn = (np.uint64(edits[row]) * np.uint64(0x94D049BB133111EB)) >> np.uint64(11)
            at = starts[row] + np.int64(turn % np.uint64(starts[row + 1] - starts[row]))
            result[at] = np.int64((turn >> np.uint64(20)) % np.uint64(num_words))
    return result


def _lines(
    ground: Soil,
    random: np.random.Generator,
    rows: int,
    chunk: int,
    kind: Ints,
    source: Ints,
    question: pa.Array,
    answer: pa.Array,
) -> list[bytes]:
    shown = (random.random(rows) < 1 / 3)[source] & (kind != 3)
    image = ground.images.take(pa.array(random.integers(len(ground.images), size=rows)[source]))
    image = pc.if_else(pa.array(shown), pc.binary_join_element_wise('"image": "', image, '", ', ""), "")
    number = pc.cast(pa.array(chunk * CHUNK + np.arange(rows)), pa.string())
    task = ground.types.take(pa.array(_types(random, rows)[source]))
    trials = pa.array(_trials()).take(pa.array(random.integers(32, size=rows) + 32 * (kind == 4)))
    parts = (
        *("{", image, '"attribution": "row ', number, '", "task": "', task, '", "conversations": [{"from": "human", '),
        *('"value": "', question, '"}, {"from": "gpt", "value": "', answer, '"}], "trials": ', trials, "}", ""),
    )
    lines = pc.binary_join_element_wise(*parts).to_pylist()
    broken = set(np.flatnonzero(kind == 5).tolist())
    return [BROKEN[i % len(BROKEN)] if i in broken else line.encode() for i, line in enumerate(lines)]


def _types(random: np.random.Generator, rows: int) -> Ints:
    """A heavy tail (Zipf's law, exponent 1.05) over all types; three rows in ten are spread evenly."""
    weight = 1 / (np.arange(NUM_TYPES) + 20.0) ** 1.05
    drawn = np.searchsorted(np.cumsum(weight / weight.sum()), random.random(rows)).clip(0, NUM_TYPES - 1)
    return np.where(random.random(rows) < 0.3, random.integers(NUM_TYPES, size=rows), drawn)


def _trials() -> list[str]:
    """32 that are not easy (some wrong, or long), then 32 that are."""
    random = np.random.default_rng(0)
    hard = [
        [(bool(random.random() < 0.6) and i > 0, int(random.integers(50, 900))) for i in range(4)] for _ in range(32)
    ]
    easy = [[(True, int(random.integers(5, 40))) for _ in range(4)] for _ in range(32)]
    return [json.dumps([{"correct": right, "tokens": tokens} for right, tokens in each]) for each in hard + easy]
