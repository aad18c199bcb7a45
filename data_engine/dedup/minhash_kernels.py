"""The hot loops of `dedup.minhash`: signatures, pairs of a bucket, and the comparison of shingle sets."""

import numba
import numpy as np

from data_engine.dedup.components import join, root_of
from data_engine.words import hash_words, mix, shingles

# Up to this many texts in a bucket all pairs are proposed; in a larger one each is paired with this many after
# it and with the bucket's first, so that work stays linear where thousands share a phrase.
WHOLE_BUCKET = 64
NEAREST = 8


@numba.njit(cache=True)
def sign(data, offsets, pictures, folded, kind, n, bands, rows, factors, terms):  # type: ignore[no-untyped-def]
    """Bucket hashes [N, bands]; 0 marks a text without words. In 32 bits, eight permutations go at once."""
    num_texts = len(offsets) - 1
    used = bands * rows
    factors, terms = factors[:used].copy(), terms[:used].copy()
    result = np.zeros((num_texts, bands), np.uint64)
    longest = 1
    for text in range(num_texts):
        longest = max(longest, offsets[text + 1] - offsets[text])
    words, grams = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    least = np.empty(used, np.uint32)
    for text in range(num_texts):
        count = hash_words(data, offsets[text], offsets[text + 1], folded, kind, words)
        count = shingles(words, count, n, grams)
        if count == 0:
            continue
        least[:] = np.uint32(0xFFFFFFFF)
        for gram in grams[:count]:
            short = np.uint32(gram >> np.uint64(32))
            for p in range(used):
                least[p] = min(least[p], np.uint32(factors[p] * short + terms[p]))
        for band in range(bands):
            state = pictures[text] + np.uint64(band)
            for p in range(band * rows, (band + 1) * rows):
                state = mix(state ^ np.uint64(least[p]))
            result[text, band] = max(state, np.uint64(1))
    return result


@numba.njit(cache=True)
def bucket_pairs(values, rows):  # type: ignore[no-untyped-def]
    """Pairs (smaller row, larger row) of equal neighbours in `values` (sorted; equal ones by rising row)."""
    pairs = np.empty((1024, 2), np.int64)
    count = 0
    start = 0
    while start < len(values):
        end = start + 1
        while end < len(values) and values[end] == values[start]:
            end += 1
        reach = end - start if end - start <= WHOLE_BUCKET else NEAREST
        for one in range(start, end):
            for other in range(one + 1, min(end, one + 1 + reach)):
                if count == len(pairs):
                    pairs = np.concatenate((pairs, np.empty_like(pairs)))
                pairs[count, 0], pairs[count, 1] = rows[one], rows[other]
                count += 1
            if one - start > reach:
                if count == len(pairs):
                    pairs = np.concatenate((pairs, np.empty_like(pairs)))
                pairs[count, 0], pairs[count, 1] = rows[start], rows[one]
                count += 1
        start = end
    return pairs[:count]


@numba.njit(cache=True)
def shingle_sets(data, offsets, folded, kind, n):  # type: ignore[no-untyped-def]
    """(all sets one after the other, where each ends): every text's distinct shingles, sorted."""
    num_texts = len(offsets) - 1
    total = offsets[num_texts] - offsets[0] if num_texts else 0
    sets, ends = np.empty(total, np.uint64), np.empty(num_texts, np.int64)
    words, grams = np.empty(total + 1, np.uint64), np.empty(total + 1, np.uint64)
    used = 0
    for text in range(num_texts):
        count = hash_words(data, offsets[text], offsets[text + 1], folded, kind, words)
        count = shingles(words, count, n, grams)
        ordered = np.sort(grams[:count])
        for place in range(count):
            if place == 0 or ordered[place] != ordered[place - 1]:
                sets[used] = ordered[place]
                used += 1
        ends[text] = used
    return sets[:used].copy(), ends


@numba.njit(cache=True)
def jaccard(sets, start_a, end_a, start_b, end_b):  # type: ignore[no-untyped-def]
    """Shared over all of two sorted sets."""
    a, b, shared = start_a, start_b, 0
    while a < end_a and b < end_b:
        if sets[a] == sets[b]:
            shared += 1
            a += 1
            b += 1
        elif sets[a] < sets[b]:
            a += 1
        else:
            b += 1
    every = (end_a - start_a) + (end_b - start_b) - shared
    return shared / every if every else 1.0


@numba.njit(cache=True)
def join_similar(parent, first, second, place_first, place_second, sets, ends, threshold):  # type: ignore[no-untyped-def]
    """Joins the pairs that are similar enough; a pair already in one component needs no look."""
    for pair in range(len(first)):
        if root_of(parent, first[pair]) == root_of(parent, second[pair]):
            continue
        a, b = place_first[pair], place_second[pair]
        start_a = ends[a - 1] if a else 0
        start_b = ends[b - 1] if b else 0
        if jaccard(sets, start_a, ends[a], start_b, ends[b]) >= threshold:
            join(parent, first[pair], second[pair])
