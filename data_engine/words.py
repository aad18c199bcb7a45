"""Words by one rule for all scripts, hashed straight from UTF-8: what shingles, statistics and matches speak of.

A word is a run of letters, marks and digits; in scripts without spaces (Han, kana, Thai, Lao, Khmer, Burmese) each
letter is a word of its own, so that word n-grams there are character n-grams. Before hashing letters are folded:
case, full-width and half-width forms (NFKC) and traditional to simplified Chinese, so that one text written in
several ways has one sequence of words.
"""

import functools
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

TABLE_SIZE = 0x30000  # planes 0 to 2; what lies beyond is Han: words alone, unfolded
SEPARATOR, LETTER, ALONE = 0, 1, 2
ALPHA, ENDS, SPACE, HAN, LATIN, KANA, HANGUL = 1, 2, 4, 8, 16, 32, 64
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
INIT = np.uint64(0xCBF29CE484222325)


@functools.cache
def tables() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """Per code point: what it is folded to, and whether it separates words, is part of one, or is one alone.

    Made once by `tools/letter_tables.py` and kept beside this module, so that no version of a library changes a hash.
    """
    with np.load(Path(__file__).with_name("letters.npz")) as found:
        return (np.arange(TABLE_SIZE) + found["shift"]).astype(np.uint32), found["kind"]


@functools.cache
def traits() -> npt.NDArray[np.uint8]:
    """Per code point the flags ALPHA, ENDS (a sentence), SPACE, HAN, LATIN, KANA and HANGUL."""
    with np.load(Path(__file__).with_name("letters.npz")) as found:
        flags: npt.NDArray[np.uint8] = found["traits"]
        return flags


@functools.cache
def plain_forms() -> npt.NDArray[np.uint32]:
    """Per code point what `folded` writes for it: as words are folded, and signs in full width as the usual ones."""
    with np.load(Path(__file__).with_name("letters.npz")) as found:
        forms: npt.NDArray[np.uint32] = (np.arange(TABLE_SIZE) + found["plain"]).astype(np.uint32)
        return forms


def text_buffers(text: pa.Array | pa.ChunkedArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """(bytes, offsets) of an Arrow string array without copying the bytes; nulls are empty."""
    flat = _flat(text)
    width = np.int64 if pa.types.is_large_string(flat.type) else np.int32
    _, offsets, data = flat.buffers()
    if offsets is None:
        return np.zeros(0, np.uint8), np.zeros(len(flat) + 1, np.int64)
    bounds = np.frombuffer(offsets, width)[flat.offset : flat.offset + len(flat) + 1].astype(np.int64)
    return (np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)), bounds


def _flat(text: pa.Array | pa.ChunkedArray) -> pa.Array:
    flat = text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text
    if isinstance(flat, pa.ChunkedArray):  # combine_chunks of an empty one
        flat = pa.concat_arrays(flat.chunks) if flat.num_chunks else pa.nulls(0, pa.string())
    return flat


def folded(text: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Texts as rules read them: no case, usual width, simplified Chinese. Character for character; nulls stay null."""
    data, offsets = text_buffers(text)
    written, bounds = _fold(data, offsets, plain_forms())
    assert bounds[-1] < 2**31, "a part's texts are under two gigabytes"
    buffers = [None, pa.py_buffer(bounds.astype(np.int32)), pa.py_buffer(written)]
    found = pa.Array.from_buffers(pa.string(), len(text), buffers)
    return pc.if_else(pc.is_valid(_flat(text)), found, None) if text.null_count else found


def folded_text(text: str) -> str:
    """As `folded`, for one text."""
    return text.translate(_plain_letters())


@functools.cache
def _plain_letters() -> dict[int, int]:
    forms = plain_forms()
    changed = np.flatnonzero(forms != np.arange(TABLE_SIZE))
    return dict(zip(changed.tolist(), forms[changed].tolist(), strict=True))


def count_words(text: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """How many words each text has; nulls have none."""
    data, offsets = text_buffers(text)
    counts: npt.NDArray[np.int64] = _count_words(data, offsets, *tables())
    return counts


def duplicate_share(text: pa.Array | pa.ChunkedArray, n: int) -> npt.NDArray[np.float64]:
    """Per text: 1 - distinct word n-grams / word n-grams, 0 for texts of fewer than n words."""
    data, offsets = text_buffers(text)
    share: npt.NDArray[np.float64] = _duplicate_share(data, offsets, *tables(), n)
    return share


def count_letters(text: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """[N, 7] per text: characters that are not white space, letters, Han, Latin, runs of Latin, kana, hangul."""
    data, offsets = text_buffers(text)
    counts: npt.NDArray[np.int64] = _count_letters(data, offsets, traits())
    return counts


@numba.njit(cache=True, inline="always")
def mix(x):  # type: ignore[no-untyped-def]
    """Spreads a 64-bit number over all its bits (the finaliser of splitmix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@numba.njit(cache=True, inline="always")
def decode(data, at):  # type: ignore[no-untyped-def]
    """(code point, bytes) of the UTF-8 sequence at `at`; the text is known to be valid."""
    lead = np.uint32(data[at])
    if lead < 0x80:
        return lead, 1
    second = np.uint32(data[at + 1]) & np.uint32(0x3F)
    if lead < 0xE0:
        return ((lead & np.uint32(0x1F)) << np.uint32(6)) | second, 2
    third = np.uint32(data[at + 2]) & np.uint32(0x3F)
    if lead < 0xF0:
        return ((lead & np.uint32(0x0F)) << np.uint32(12)) | (second << np.uint32(6)) | third, 3
    fourth = np.uint32(data[at + 3]) & np.uint32(0x3F)
    return (
        ((lead & np.uint32(0x07)) << np.uint32(18)) | (second << np.uint32(12)) | (third << np.uint32(6)) | fourth
    ), 4


@numba.njit(cache=True)
def hash_words(data, start, end, folded, kind, out):  # type: ignore[no-untyped-def]
    """Writes the hashes of the words in data[start:end] to `out` (at least end - start long); how many."""
    count = 0
    inside = False
    state = INIT
    at = start
    while at < end:
        point, size = decode(data, at)
        at += size
        sort = kind[point] if point < TABLE_SIZE else np.uint8(ALONE)
        if sort == LETTER:
            state = (state ^ np.uint64(folded[point])) * MULTIPLIER
            inside = True
            continue
        if inside:
            out[count] = mix(state)
            count += 1
            inside = False
            state = INIT
        if sort == ALONE:
            letter = folded[point] if point < TABLE_SIZE else point
            out[count] = mix((INIT ^ np.uint64(letter)) * MULTIPLIER)
            count += 1
    if inside:
        out[count] = mix(state)
        count += 1
    return count


@numba.njit(cache=True)
def shingles(words, count, n, out):  # type: ignore[no-untyped-def]
    """Writes the hashes of the n-grams of words[:count] to `out`; how many. Fewer words than n are one n-gram."""
    if count == 0:
        return 0
    size = min(n, count)
    for first in range(count - size + 1):
        state = np.uint64(size)
        for word in words[first : first + size]:
            state = state * MULTIPLIER + word
        out[first] = mix(state)
    return count - size + 1


@numba.njit(cache=True)
def _longest(offsets):  # type: ignore[no-untyped-def]
    longest = 1
    for text in range(len(offsets) - 1):
        longest = max(longest, offsets[text + 1] - offsets[text])
    return longest


@numba.njit(cache=True)
def _count_words(data, offsets, folded, kind):  # type: ignore[no-untyped-def]
    result, words = np.empty(len(offsets) - 1, np.int64), np.empty(_longest(offsets), np.uint64)
    for text in range(len(offsets) - 1):
        result[text] = hash_words(data, offsets[text], offsets[text + 1], folded, kind, words)
    return result


@numba.njit(cache=True)
def _duplicate_share(data, offsets, folded, kind, n):  # type: ignore[no-untyped-def]
    result, longest = np.zeros(len(offsets) - 1, np.float64), _longest(offsets)
    words, grams = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    for text in range(len(offsets) - 1):
        count = hash_words(data, offsets[text], offsets[text + 1], folded, kind, words)
        if count < n:
            continue
        count = shingles(words, count, n, grams)
        ordered = np.sort(grams[:count])
        distinct = 1
        for place in range(1, count):
            distinct += ordered[place] != ordered[place - 1]
        result[text] = 1.0 - distinct / count
    return result


@numba.njit(cache=True)
def _count_letters(data, offsets, flags):  # type: ignore[no-untyped-def]
    result = np.zeros((len(offsets) - 1, 7), np.int64)
    for text in range(len(offsets) - 1):
        row, at, inside = result[text], offsets[text], False
        while at < offsets[text + 1]:
            point, size = decode(data, at)
            at += size
            seen = flags[point] if point < TABLE_SIZE else np.uint8(ALPHA | HAN)
            latin = seen & LATIN != 0
            row[0] += seen & SPACE == 0
            row[1] += seen & ALPHA != 0
            row[2] += seen & HAN != 0
            row[3] += latin
            row[4] += latin and not inside
            row[5] += seen & KANA != 0
            row[6] += seen & HANGUL != 0
            inside = latin
    return result


@numba.njit(cache=True)
def _fold(data, offsets, forms):  # type: ignore[no-untyped-def]
    """(bytes, offsets) of the texts with each code point in its plain form: measured first, then written."""
    bounds = np.zeros(len(offsets), np.int64)
    for text in range(len(offsets) - 1):
        at, size = offsets[text], 0
        while at < offsets[text + 1]:
            point, step = decode(data, at)
            at += step
            size += _size(forms[point] if point < TABLE_SIZE else point)
        bounds[text + 1] = bounds[text] + size
    out, place = np.empty(bounds[-1], np.uint8), 0
    for text in range(len(offsets) - 1):
        at = offsets[text]
        while at < offsets[text + 1]:
            point, step = decode(data, at)
            at += step
            place = _encode(forms[point] if point < TABLE_SIZE else point, out, place)
    return out, bounds


@numba.njit(cache=True, inline="always")
def _size(point):  # type: ignore[no-untyped-def]
    return 1 + (point >= 0x80) + (point >= 0x800) + (point >= 0x10000)


@numba.njit(cache=True, inline="always")
def _encode(point, out, place):  # type: ignore[no-untyped-def]
    """Writes a code point as UTF-8 to `out` at `place`; where the next one goes."""
    size = _size(point)
    if size == 1:
        out[place] = point
        return place + 1
    for back in range(size - 1, 0, -1):
        out[place + back] = 0x80 | (point & 0x3F)
        point >>= 6
    out[place] = (0xFF00 >> size) & 0xFF | point
    return place + size
