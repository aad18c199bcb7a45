"""How much of a known text stands in another: the share of its word n-grams, by an index of the known ones."""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_engine.words import hash_words, shingles, tables, text_buffers

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TextIndex:
    """The n-grams of a list of texts: sorted hashes, whose they are, and how many each text has."""

    hashes: npt.NDArray[np.uint64]
    owner: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int32]
    n: int


def index(texts: list[str], n: int, min_words: int = 1) -> TextIndex:
    """The index of these texts; one of fewer than `min_words` words has no n-gram in it, so that nothing matches it."""
    data, offsets = text_buffers(pa.array(texts, pa.string()))
    hashes, owner, sizes = _index(data, offsets, *tables(), n, min_words)
    order = np.lexsort((owner, hashes))
    return TextIndex(hashes[order], owner[order], sizes, n)


def best_match(texts: pa.Array, known: TextIndex) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Per text the known one it holds most of (-1: none), and the share of that one's n-grams it holds."""
    data, offsets = text_buffers(texts)
    return _match(data, offsets, *tables(), known.hashes, known.owner, known.sizes, known.n)  # type: ignore[no-any-return]


def whole(texts: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Per text one hash of all its words in their order; 0 for a text without words."""
    data, offsets = text_buffers(texts)
    hashes: npt.NDArray[np.uint64] = _whole(data, offsets, *tables())
    return hashes


@numba.njit(cache=True)
def _whole(data, offsets, folded, kind):  # type: ignore[no-untyped-def]
    result, longest = np.zeros(len(offsets) - 1, np.uint64), 1
    for text in range(len(result)):
        longest = max(longest, offsets[text + 1] - offsets[text])
    words, grams = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    for text in range(len(result)):
        count = hash_words(data, offsets[text], offsets[text + 1], folded, kind, words)
        if shingles(words, count, max(count, 1), grams):
            result[text] = grams[0]
    return result


@numba.njit(cache=True)
def _index(data, offsets, folded, kind, n, min_words):  # type: ignore[no-untyped-def]
    num_texts = len(offsets) - 1
    total = offsets[num_texts] - offsets[0] + 1
    hashes, owner = np.empty(total, np.uint64), np.empty(total, np.int32)
    sizes = np.zeros(num_texts, np.int32)
    words, grams = np.empty(total, np.uint64), np.empty(total, np.uint64)
    used = 0
    for text in range(num_texts):
        count = hash_words(data, offsets[text], offsets[text + 1], folded, kind, words)
        if count < min_words:
            continue
        count = shingles(words, count, n, grams)
        ordered = np.sort(grams[:count])
        for place in range(count):
            if place == 0 or ordered[place] != ordered[place - 1]:
                hashes[used], owner[used] = ordered[place], text
                sizes[text] += 1
                used += 1
    return hashes[:used].copy(), owner[:used].copy(), sizes


@numba.njit(cache=True)
def _match(data, offsets, folded, kind, hashes, owner, sizes, n):  # type: ignore[no-untyped-def]
    num_texts = len(offsets) - 1
    best, share = np.full(num_texts, -1, np.int64), np.zeros(num_texts, np.float64)
    longest = 1
    for text in range(num_texts):
        longest = max(longest, offsets[text + 1] - offsets[text] + 1)
    words, grams = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    shared, touched = np.zeros(len(sizes), np.int32), np.empty(len(sizes), np.int64)
    for text in range(num_texts):
        count = hash_words(data, offsets[text], offsets[text + 1], folded, kind, words)
        count = shingles(words, count, n, grams)
        num_touched = 0
        for place in range(count):
            at = np.searchsorted(hashes, grams[place])
            if at == len(hashes) or hashes[at] != grams[place] or _seen(grams, place):
                continue
            while at < len(hashes) and hashes[at] == grams[place]:
                item = owner[at]
                if shared[item] == 0:
                    touched[num_touched] = item
                    num_touched += 1
                shared[item] += 1
                at += 1
        for item in touched[:num_touched]:
            found = shared[item] / sizes[item]
            if found > share[text] or (found == share[text] and item < best[text]):
                best[text], share[text] = item, found
            shared[item] = 0
    return best, share


@numba.njit(cache=True, inline="always")
def _seen(grams, place):  # type: ignore[no-untyped-def]
    """Whether an n-gram stood in the same text before; asked only of the few that are known at all."""
    for before in range(place):  # noqa: SIM110 - compiled, where a loop is a loop
        if grams[before] == grams[place]:
            return True
    return False
