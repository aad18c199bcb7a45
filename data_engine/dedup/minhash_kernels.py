"""The hot loops of `dedup.minhash`: signatures, shingle sets, and the comparison of the texts of a bucket."""

import numba
import numpy as np

from data_engine.dedup.components import join, root_of
from data_engine.dedup.hamming import ones
from data_engine.words import hash_words, mix, shingles

# All texts of a bucket are compared with each other while there are no more than this many; in a larger one each is
# compared with the first and with this many before it, rare words first, so that work stays linear where many
# thousands share a phrase.
REACH = 4096
SKETCHED = 8  # from this many texts on a sketch of each pays for itself
MOST_WORDS = 64  # of a sketch
UNIONED = 8  # texts whose shingles count as what all share


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


@numba.njit(cache=True, inline="always")
def _most_apart(total, threshold):  # type: ignore[no-untyped-def]
    """The most shingles that two sets of `total` in all may hold one without the other and reach the threshold."""
    return int(total * (1 - threshold) / (1 + threshold) + 1e-6)


@numba.njit(cache=True)
def similar(sets, start_a, end_a, start_b, end_b, threshold):  # type: ignore[no-untyped-def]
    """Whether what two sorted sets share over all they hold (Jaccard) reaches the threshold; stops once it cannot."""
    total = (end_a - start_a) + (end_b - start_b)
    left = _most_apart(total, threshold)
    if abs((end_a - start_a) - (end_b - start_b)) > left:
        return False
    a, b, shared = start_a, start_b, 0
    while a < end_a and b < end_b:
        one, other = sets[a], sets[b]
        if one == other:
            shared += 1
        else:
            left -= 1
            if left < 0:
                return False
        a += one <= other
        b += other <= one
    return shared / (total - shared) >= threshold


@numba.njit(cache=True)
def join_buckets(members, starts, sets, begin, end, threshold, reach, salt, parent, sketches, edges):  # type: ignore[no-untyped-def]
    """Joins the similar texts of every bucket and writes the pairs that did, a forest, to `edges` [N, 2]; how many.

    `starts` cuts `members` into buckets; the set of text i is sets[begin[i] : end[i]]. `parent` [N] is 0, 1, 2, ...
    and `sketches` [reach + 1, words] is room to work in. What one bucket has joined, no other looks at again.
    """
    count = 0
    for bucket in range(len(starts) - 1):
        order = members[starts[bucket] : starts[bucket + 1]]
        first, left = order[0], 1
        root = root_of(parent, first)
        for item in order[1:]:
            left += root_of(parent, item) != root
        if left > 1 and len(order) > reach + 1:
            for item in order[1:]:
                if root_of(parent, item) != root_of(parent, first) and _alike(sets, begin, end, first, item, threshold):
                    count = _link(parent, first, item, edges, count)
                    left -= 1
            if left > 1:
                order = order[np.argsort(_rare(sets, begin, end, order, salt), kind="mergesort")]
        if left > 1:
            count = _join_near(order, left, sets, begin, end, threshold, reach, parent, sketches, edges, count)
    return count


@numba.njit(cache=True)
def _join_near(order, left, sets, begin, end, threshold, reach, parent, sketches, edges, count):  # type: ignore[no-untyped-def]
    """Compares each text with those up to `reach` before it, unless they are of one component already.

    `left` is the most components that there can be. Two sketches differ in no more bits than the sets in shingles (a
    bitmap filter: Sandes et al. 2020; the sketch is the odd sketch of Mitzenmacher et al. 2014), so what they rule out
    is ruled out for sure.
    """
    sketched, words = len(order) > SKETCHED, 4
    while words < sketches.shape[1] and words * 16 < end[order[0]] - begin[order[0]]:
        words *= 2
    for turn in range(len(order)):
        item = order[turn]
        mine = sketches[turn % len(sketches), :words]
        if sketched:
            _sketch(sets[begin[item] : end[item]], mine)
        root = root_of(parent, item)
        for before in range(turn - 1, max(turn - reach, 0) - 1, -1):
            other = order[before]
            if parent[other] == root or root_of(parent, other) == root:
                continue
            if sketched:
                total = (end[item] - begin[item]) + (end[other] - begin[other])
                if _apart(mine, sketches[before % len(sketches), :words]) > _most_apart(total, threshold):
                    continue
            if _alike(sets, begin, end, item, other, threshold):
                count = _link(parent, item, other, edges, count)
                root = root_of(parent, item)
                left -= 1
                if left == 1:
                    return count
    return count


@numba.njit(cache=True, inline="always")
def _alike(sets, begin, end, one, other, threshold):  # type: ignore[no-untyped-def]
    return similar(sets, begin[one], end[one], begin[other], end[other], threshold)


@numba.njit(cache=True, inline="always")
def _link(parent, one, other, edges, count):  # type: ignore[no-untyped-def]
    """Makes one component of two and keeps the pair that did."""
    join(parent, one, other)
    edges[count, 0], edges[count, 1] = one, other
    return count + 1


@numba.njit(cache=True, inline="always")
def _sketch(shingles_of, out):  # type: ignore[no-untyped-def]
    """Every shingle turns over one bit."""
    out[:] = np.uint64(0)
    mask = np.uint64(len(out) * 64 - 1)
    for shingle in shingles_of:
        bit = shingle & mask
        out[bit >> np.uint64(6)] ^= np.uint64(1) << (bit & np.uint64(63))


@numba.njit(cache=True, inline="always")
def _apart(one, other):  # type: ignore[no-untyped-def]
    """Bits in which two sketches differ."""
    found = np.uint64(0)
    for word in range(len(one)):
        found += ones(one[word] ^ other[word])
    return np.int64(found)


@numba.njit(cache=True)
def _rare(sets, begin, end, order, salt):  # type: ignore[no-untyped-def]
    """A MinHash of each text's shingles that the bucket's first few do not hold: equal where slots are filled alike."""
    total = 0
    for item in order[:UNIONED]:
        total += end[item] - begin[item]
    common, used = np.empty(total, np.uint64), 0
    for item in order[:UNIONED]:
        size = end[item] - begin[item]
        common[used : used + size] = sets[begin[item] : end[item]]
        used += size
    common.sort()
    keys = np.full(len(order), np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64)
    for place in range(len(order)):
        at = 0
        for shingle in sets[begin[order[place]] : end[order[place]]]:
            while at < total and common[at] < shingle:
                at += 1
            if at == total or common[at] != shingle:
                keys[place] = min(keys[place], mix(shingle ^ salt))
    return keys
