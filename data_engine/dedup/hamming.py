"""All pairs of 64-bit hashes within a Hamming radius, exact at any size.

Multi-index hashing (Norouzi et al., arXiv 1307.2982): a hash is cut into m bands, and the radius is shared out so
that the radii of the bands, each plus one, sum to radius + 1. Two hashes within the radius are then within a
band's own radius in at least one band (pigeonhole), so looking up each band's neighbours misses none.
"""

from itertools import combinations, pairwise
from math import comb

import numba
import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Bands = list[tuple[int, int, int]]  # low bit, high bit, radius


def near_pairs(hashes: Hashes, radius: int) -> Ints:
    """All index pairs [N, 2] of hashes at distance <= radius, each once, first < second, in rising order."""
    return _search(hashes, hashes, radius, True)


def near(queries: Hashes, base: Hashes, radius: int) -> Ints:
    """All pairs [N, 2] of (query, base) indices at distance <= radius, in rising order."""
    return _search(queries, base, radius, False)


def _search(queries: Hashes, base: Hashes, radius: int, within: bool) -> Ints:
    if not len(queries) or not len(base):
        return np.empty((0, 2), np.int64)
    bands = choose_bands(len(base), radius)
    shifts = np.array([low for low, _, _ in bands], np.uint64)
    masks = np.array([(1 << (high - low)) - 1 for low, high, _ in bands], np.uint64)
    radii = np.array([band_radius for _, _, band_radius in bands], np.int64)
    found = [np.empty((0, 2), np.int64)]
    for band, (low, high, band_radius) in enumerate(bands):
        if band_radius < 0:
            continue
        values = (base >> np.uint64(low)) & masks[band]
        order = np.argsort(values, kind="stable").astype(np.uint32)
        starts = np.searchsorted(values[order], np.arange((1 << (high - low)) + 1, dtype=np.uint64)).astype(np.uint32)
        flips = neighbours(high - low, band_radius)
        # Queries in the order of their values too: those of one value look at the same hashes one after another.
        turn = (
            order if within else np.argsort((queries >> np.uint64(low)) & masks[band], kind="stable").astype(np.uint32)
        )
        found.append(
            _band(queries, turn, base[order], order, starts, flips, band, shifts, masks, radii, radius, within)
        )
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def choose_bands(count: int, radius: int) -> Bands:
    """The cut of 64 bits with the least expected work for `count` hashes: looked-up values and hashes compared."""
    return min((_cut(m, radius) for m in range(3, 17)), key=lambda bands: _work(bands, count))


def _cut(count: int, radius: int) -> Bands:
    edges = [64 * i // count for i in range(count + 1)]
    base, extra = divmod(radius + 1, count)
    return [(low, high, base - 1 + (i < extra)) for i, (low, high) in enumerate(pairwise(edges))]


def _work(bands: Bands, count: int) -> float:
    total = 0.0
    for low, high, radius in bands:
        bits = high - low
        if radius < 0:  # a band that need not be searched
            continue
        looked_up = sum(comb(bits, flipped) for flipped in range(radius + 1))
        total += looked_up * (8 + count / 2**bits) + 2**bits / max(count, 1)
    return total


def neighbours(bits: int, radius: int) -> Hashes:
    """All numbers of `bits` bits with at most `radius` ones: what to flip to reach a value's neighbours."""
    chosen = (bits_set for size in range(radius + 1) for bits_set in combinations(range(bits), size))
    return np.array([sum(1 << bit for bit in bits_set) for bits_set in chosen], np.uint64)


@numba.njit(cache=True, inline="always")
def ones(x):  # type: ignore[no-untyped-def]
    """Set bits of a 64-bit number, by the well-known sideways addition (one instruction once compiled)."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (x * np.uint64(0x0101010101010101)) >> np.uint64(56)


@numba.njit(cache=True)
def _band(queries, turn, base, order, starts, flips, band, shifts, masks, radii, radius, within):  # type: ignore[no-untyped-def]
    """Pairs that this band finds and no band before it does. `base` is in the order of the band's values."""
    pairs = np.empty((1024, 2), np.int64)
    count = 0
    for query in turn:
        mine = queries[query]
        value = (mine >> shifts[band]) & masks[band]
        for flip in flips:
            at = value ^ flip
            for place in range(starts[at], starts[at + np.uint64(1)]):
                difference = mine ^ base[place]
                if ones(difference) > radius:
                    continue
                other = order[place]
                if (within and other <= query) or _found_before(difference, band, shifts, masks, radii):
                    continue
                if count == len(pairs):
                    pairs = np.concatenate((pairs, np.empty_like(pairs)))
                pairs[count, 0], pairs[count, 1] = query, other
                count += 1
    return pairs[:count]


@numba.njit(cache=True, inline="always")
def _found_before(difference, band, shifts, masks, radii):  # type: ignore[no-untyped-def]
    for earlier in range(band):  # noqa: SIM110 - compiled, where a loop is a loop
        if ones((difference >> shifts[earlier]) & masks[earlier]) <= radii[earlier]:
            return True
    return False
