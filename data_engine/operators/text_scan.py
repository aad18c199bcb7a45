"""One scan over a text for all statistics of Gopher (arXiv 2112.11446, A1), C4 (1910.10683) and FineWeb (2406.17557).

Compiled; it sees UTF-8 bytes once and knows nothing of thresholds. Words are those of `data_engine.words`, so in
Chinese every character is one; shares of characters count code points.
"""

from itertools import pairwise

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_engine.words import (
    ALONE,
    ALPHA,
    ENDS,
    HAN,
    INIT,
    LETTER,
    MULTIPLIER,
    SPACE,
    TABLE_SIZE,
    decode,
    hash_words,
    mix,
    plain_forms,
    tables,
    text_buffers,
    traits,
)

TOP_GRAMS = (2, 3, 4)
DUPLICATE_GRAMS = (5, 6, 7, 8, 9, 10)
COLUMNS = (
    "num_chars", "num_words", "mean_word_length", "longest_word", "alpha_word_share", "stop_words", "han_share",
    "hash_share", "ellipsis_share", "bullet_line_share", "ellipsis_line_share",
    "duplicate_line_share", "duplicate_line_chars", "duplicate_paragraph_share", "duplicate_paragraph_chars",
    *(f"top_{n}gram_chars" for n in TOP_GRAMS), *(f"duplicate_{n}gram_chars" for n in DUPLICATE_GRAMS),
    "num_sentences", "good_line_share", "curly_brackets", "lorem_ipsum",
    "ending_line_share", "short_line_share", "newlines_per_word",
)  # fmt: skip
NUM_COLUMNS = len(COLUMNS)
FIRST_TOP, NUM_TOP = COLUMNS.index("top_2gram_chars"), len(TOP_GRAMS)
NUM_DUPLICATE = len(DUPLICATE_GRAMS)
NUM_SENTENCES, NEWLINES = COLUMNS.index("num_sentences"), COLUMNS.index("newlines_per_word")
# Gopher's eight English words, and as many of the commonest Chinese ones (single characters, as words are there).
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with", *"的是了在和有不我")
_SHORT_LINE = 30  # FineWeb
_LINE_WORDS = 3  # C4
_DOTS, _WIDE_DOTS = (np.frombuffer(dots.encode(), np.uint8) for dots in ("...", "．．．"))
_LOREM = np.frombuffer(b"lorem ipsum", np.uint8)
_SCRIPT = np.frombuffer(b"javascript", np.uint8)


def scan(text: pa.Array | pa.ChunkedArray) -> dict[str, pa.Array]:
    """The columns `COLUMNS` of a column of texts, as float64."""
    data, offsets = text_buffers(text)
    found = _scan(data, offsets, *tables(), traits(), plain_forms(), _stop_hashes())
    return {name: pa.array(found[:, place]) for place, name in enumerate(COLUMNS)}


def _stop_hashes() -> npt.NDArray[np.uint64]:
    data, offsets = text_buffers(pa.array(STOP_WORDS))
    out = np.empty(16, np.uint64)
    hashes = []
    for start, end in pairwise(offsets):
        hash_words(data, start, end, *tables(), out)
        hashes.append(int(out[0]))
    return np.array(hashes, np.uint64)


@numba.njit(cache=True)
def _scan(data, offsets, folded, kind, flags, plain, stops):  # type: ignore[no-untyped-def]
    """The statistics [N, columns], in the order of `COLUMNS`."""
    num_texts = len(offsets) - 1
    longest = 2
    for text in range(num_texts):
        longest = max(longest, offsets[text + 1] - offsets[text] + 2)
    result = np.zeros((num_texts, NUM_COLUMNS), np.float64)
    words, lengths = np.empty(longest, np.uint64), np.empty(longest, np.int64)
    grams, before = np.empty(longest, np.uint64), np.empty(longest + 1, np.int64)
    size = 16
    while size < 2 * longest:
        size *= 2
    # A hash table: keys, how often, and the turn in which the slot was last used (so that nothing need be cleared).
    keys, counts, turns = np.empty(size, np.uint64), np.empty(size, np.int32), np.zeros(size, np.int32)
    turn = np.zeros(1, np.int32)
    for text in range(num_texts):
        start, end, row = offsets[text], offsets[text + 1], result[text]
        count = _words(data, start, end, folded, kind, flags, plain, stops, words, lengths, row)
        _lines(data, start, end, kind, flags, plain, keys, counts, turns, turn, row)
        _paragraphs(data, start, end, keys, counts, turns, turn, row)
        before[0] = 0
        for word in range(count):
            before[word + 1] = before[word] + lengths[word]
        _repetition(words, count, grams, before, keys, counts, turns, turn, row)
        row[NEWLINES] /= max(count, 1)
    return result


@numba.njit(cache=True)
def _words(data, start, end, folded, kind, flags, plain, stops, words, lengths, row):  # type: ignore[no-untyped-def]
    """Hashes and lengths of the words, and the columns that speak of words and letters; how many words."""
    count = letters = han = hashes = dots = ellipses = longest = total = alpha = 0
    length, state, has_alpha = 0, INIT, False
    stopped = brackets = 0
    at = start
    while at <= end:
        if at < end:
            point, size = decode(data, at)
            sort = kind[point] if point < TABLE_SIZE else np.uint8(ALONE)
            flag = flags[point] if point < TABLE_SIZE else np.uint8(HAN | ALPHA)
        else:
            point, size, sort, flag = np.uint32(32), 1, np.uint8(0), np.uint8(0)
        if length and sort != LETTER:
            words[count], lengths[count] = mix(state), length
            count += 1
            total += length
            longest = max(longest, length)
            alpha += has_alpha
            stopped |= _stop_bit(words[count - 1], stops)
            length, state, has_alpha = 0, INIT, False
        if at == end:
            break
        at += size
        letters += 1
        if sort == LETTER:
            state = (state ^ np.uint64(folded[point])) * MULTIPLIER
            length += 1
            has_alpha |= (flag & ALPHA) != 0
        elif sort == ALONE:
            letter = folded[point] if point < TABLE_SIZE else point
            words[count], lengths[count] = mix((INIT ^ np.uint64(letter)) * MULTIPLIER), 1
            count += 1
            total += 1
            longest = max(longest, 1)
            alpha += 1
            stopped |= _stop_bit(words[count - 1], stops)
        han += (flag & HAN) != 0
        sign = _plain(point, plain)
        hashes, brackets = hashes + (sign == 35), brackets + (sign == 123)
        dots = dots + 1 if sign == 46 else 0
        ellipses += (sign == 0x2026) + (dots == 3)
        if dots == 3:
            dots = 0
    every = max(count, 1)
    row[0], row[1], row[2], row[3] = letters, count, total / every, longest
    row[4], row[6] = alpha / every, han / max(letters, 1)
    while stopped:
        row[5] += stopped & 1
        stopped >>= 1
    row[7], row[8], row[NUM_SENTENCES + 2] = hashes / every, ellipses / every, brackets
    return count


@numba.njit(cache=True, inline="always")
def _stop_bit(word, stops):  # type: ignore[no-untyped-def]
    for place in range(len(stops)):
        if stops[place] == word:
            return 1 << place
    return 0


@numba.njit(cache=True, inline="always")
def _plain(point, plain):  # type: ignore[no-untyped-def]
    return plain[point] if point < TABLE_SIZE else point


@numba.njit(cache=True)
def _lines(data, start, end, kind, flags, plain, keys, counts, turns, turn, row):  # type: ignore[no-untyped-def]
    """The columns that speak of lines. A line without a letter, mark or digit is not counted (FineWeb)."""
    turn[0] += 1
    mask = _mask(_count_byte(data, start, end, 10) + 1)
    num = bullets = ellipses = ending = short = repeated = repeated_chars = good = sentences = newlines = 0
    at = start
    while at < end:
        stop = at
        while stop < end and data[stop] != 10:
            stop += 1
        newlines += stop < end
        chars, line_words, sentence_ends, first, last, key = _line(data, at, stop, kind, flags)
        if chars:
            num += 1
            bullets += _plain(first, plain) in (0x2022, 45)
            dotted = _ends_in(data, at, stop, _DOTS) or _ends_in(data, at, stop, _WIDE_DOTS)
            ends_in_dots = last == 0x2026 or dotted
            ellipses += ends_in_dots
            ends = (flags[last] & ENDS) != 0 if last < TABLE_SIZE else False
            ending += ends
            short += chars <= _SHORT_LINE
            if _add(key, keys, counts, turns, turn[0], mask) > 1:
                repeated += 1
                repeated_chars += chars
            closed = ends or _plain(last, plain) in (34, 39, 0x201D, 0x2019, 0x300D)
            if closed and not ends_in_dots and line_words >= _LINE_WORDS and not _contains(data, at, stop, _SCRIPT):
                good += 1
                sentences += max(1, sentence_ends)
        at = stop + 1
    lines = max(num, 1)
    row[9], row[10] = bullets / lines, ellipses / lines
    row[11], row[12] = repeated / lines, repeated_chars / max(row[0], 1)
    row[NUM_SENTENCES], row[NUM_SENTENCES + 1] = sentences, good / lines
    row[NUM_SENTENCES + 3] = _contains(data, start, end, _LOREM)
    row[NEWLINES - 2], row[NEWLINES - 1], row[NEWLINES] = ending / lines, short / lines, newlines


@numba.njit(cache=True)
def _line(data, start, end, kind, flags):  # type: ignore[no-untyped-def]
    """(characters from the first to the last that is not space, words, ends of sentences, first, last, hash)."""
    chars = trailing = line_words = ends = 0
    inside = closing = False
    first = last = np.uint32(0)
    key = INIT
    at = start
    while at < end:
        point, size = decode(data, at)
        at += size
        flag = flags[point] if point < TABLE_SIZE else np.uint8(HAN | ALPHA)
        sort = kind[point] if point < TABLE_SIZE else np.uint8(ALONE)
        if flag & SPACE:
            trailing += chars > 0
            ends += closing
            inside = closing = False
            continue
        if chars == 0:
            first = point
        chars += trailing + 1
        trailing = 0
        last = point
        key = (key ^ np.uint64(point)) * MULTIPLIER
        line_words += sort == ALONE or (sort == LETTER and not inside)
        inside = sort == LETTER
        if flag & ENDS and point > 0x2FFF and point != 0xFF0E:  # 。！？: no space need follow, as after a full stop
            ends += 1
            closing = False
        elif flag & ENDS:
            closing = True
        elif sort != 0:
            closing = False
    return chars, line_words, ends + closing, first, last, mix(key)


@numba.njit(cache=True)
def _ends_in(data, start, end, dots):  # type: ignore[no-untyped-def]
    while end > start and data[end - 1] <= 32:
        end -= 1
    return end - start >= len(dots) and np.array_equal(data[end - len(dots) : end], dots)


@numba.njit(cache=True)
def _contains(data, start, end, needle):  # type: ignore[no-untyped-def]
    """Whether the lower-case ASCII needle is in data[start:end], in any case."""
    size = len(needle)
    for at in range(start, end - size + 1):
        place = 0
        while place < size and (data[at + place] | 32) == (needle[place] | 32):
            place += 1
        if place == size:
            return True
    return False


@numba.njit(cache=True)
def _count_byte(data, start, end, byte):  # type: ignore[no-untyped-def]
    count = 0
    for at in range(start, end):
        count += data[at] == byte
    return count


@numba.njit(cache=True)
def _paragraphs(data, start, end, keys, counts, turns, turn, row):  # type: ignore[no-untyped-def]
    """Shares of paragraphs (cut at blank lines) seen before, and of the characters in them."""
    turn[0] += 1
    mask = _mask(_count_byte(data, start, end, 10) + 1)
    num = repeated = repeated_chars = 0
    at = start
    while at < end:
        while at < end and data[at] <= 32:
            at += 1
        stop, key, chars = at, INIT, 0
        while stop < end and not (data[stop] == 10 and stop + 1 < end and data[stop + 1] == 10):
            key = (key ^ np.uint64(data[stop])) * MULTIPLIER
            chars += (data[stop] & 0xC0) != 0x80
            stop += 1
        if chars:
            num += 1
            if _add(mix(key), keys, counts, turns, turn[0], mask) > 1:
                repeated += 1
                repeated_chars += chars
        at = stop + 1
    row[13], row[14] = repeated / max(num, 1), repeated_chars / max(row[0], 1)


@numba.njit(cache=True, inline="always")
def _mask(num):  # type: ignore[no-untyped-def]
    """How much of the table `num` keys need: a short text's stays in the processor's nearest cache."""
    mask = 15
    while mask < 2 * num:
        mask = 2 * mask + 1
    return np.uint64(mask)


@numba.njit(cache=True, inline="always")
def _add(key, keys, counts, turns, turn, mask):  # type: ignore[no-untyped-def]
    """How often the key has been added in this turn, in the part of the table that `mask` reaches."""
    slot = key & mask
    while turns[slot] == turn and keys[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    if turns[slot] != turn:
        turns[slot], keys[slot], counts[slot] = turn, key, 0
    counts[slot] += 1
    return counts[slot]


@numba.njit(cache=True)
def _repetition(words, count, grams, before, keys, counts, turns, turn, row):  # type: ignore[no-untyped-def]
    """Gopher's top and duplicate n-grams. Where no n-gram comes twice no longer one does: the rest is known."""
    again = True
    for place in range(NUM_TOP + NUM_DUPLICATE):
        n = place + 2
        num = _hash_grams(words, count, n, grams) if again else max(count - n + 1, 0)
        if place < NUM_TOP:
            covered, again = _top_gram(grams, num, before, n, keys, counts, turns, turn, again)
        elif again:
            covered = _repeated_grams(grams, num, before, n, keys, counts, turns, turn)
            again = covered > 0
        else:
            covered = 0
        row[FIRST_TOP + place] = covered / max(row[0], 1)


@numba.njit(cache=True)
def _hash_grams(words, count, n, grams):  # type: ignore[no-untyped-def]
    """Writes the hashes of all n-grams to `grams`, each made from the one before it; how many."""
    if count < n:
        return 0
    power, state = np.uint64(1), np.uint64(0)
    for place in range(n):
        state = state * MULTIPLIER + words[place]
        power *= MULTIPLIER
    grams[0] = mix(state)
    for first in range(1, count - n + 1):
        state = state * MULTIPLIER + words[first + n - 1] - power * words[first - 1]
        grams[first] = mix(state)
    return count - n + 1


@numba.njit(cache=True)
def _top_gram(grams, num, before, n, keys, counts, turns, turn, again):  # type: ignore[no-untyped-def]
    """Characters (spaces between words included) covered by the commonest n-gram, the first of equals; and whether
    it comes again. If it is known that none does (not `again`), that is the text's first."""
    turn[0] += 1
    mask, best, best_first = _mask(num), 1, 0
    for first in range(num if again else 0):
        times = _add(grams[first], keys, counts, turns, turn[0], mask)
        if times > best:
            best, best_first = times, first
    covered = best * (before[best_first + n] - before[best_first] + n - 1) if num else 0
    return covered, best > 1


@numba.njit(cache=True)
def _repeated_grams(grams, num, before, n, keys, counts, turns, turn):  # type: ignore[no-untyped-def]
    """Characters in n-grams seen before, none counted twice: after one, the next begins behind it."""
    turn[0] += 1
    mask, repeated, first = _mask(num), 0, 0
    while first < num:
        if _add(grams[first], keys, counts, turns, turn[0], mask) > 1:
            repeated += before[first + n] - before[first]
            first += n
        else:
            first += 1
    return repeated
