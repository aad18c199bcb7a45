"""The loops of mixing: a permutation that is computed, and the discrete schedule nearest to a fluid one.

Every class (a modality, or a source within one) is served as if tokens were a fluid, at its share of the time; the time
is the tokens served so far. A sample may begin when the fluid of its class has come to it, and of those that may the
one whose fluid ends first is next: earliest deadline first among the eligible (WF2Q of Bennett and Zhang, 1996;
Tijdeman's chairman assignment, 1980). So no class is ever a whole sample ahead of its fluid or behind it.
"""

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ROUNDS, MORE_ROUNDS, FEW = 4, 8, 1 << 20
"""Of the permutation; of one of less than `FEW` slots more, as its halves have less to tell apart."""

STEP = np.uint64(0x9E3779B97F4A7C15)
AHEAD = 256
"""Samples of a source looked up at once, so that their memory is waited for together."""


PIECE = (
    ("corner", np.int64),
    ("start", np.float64),
    ("served", np.float64),
    ("pace", np.float64),
    ("until", np.float64),
)
"""The piece of a `Fluid` in which a class is: up to `until` tokens it has n at `start` + (n - `served`) * `pace`."""

SOURCE = np.dtype(
    [
        ("first", np.int64),
        ("slots", np.int64),
        ("passes", np.int64),
        ("key", np.uint64),
        ("turn", np.int64),
        ("slot", np.int64),
        ("next", np.int64),
        ("known", np.int64),
        ("tokens", np.int64),
        ("cum", np.int64),
        ("head", np.int64),
        ("begin", np.float64),
        ("end", np.float64),
        *PIECE,
    ],
    align=True,
)
"""A source: `members[first : first + slots]` are its samples of one pass; it has given `slot` - 1 of pass `turn`, and
`cum` tokens in all. Next is `head` (-1: none), of `tokens` tokens, which the fluid comes to at `begin` and has served
at `end`. `next`, `known`: place and number of its entries in the row that is looked up ahead.
"""

GROUP = np.dtype(
    [
        ("first", np.int64),
        ("last", np.int64),
        ("cum", np.int64),
        ("head", np.int64),
        ("begin", np.float64),
        ("end", np.float64),
        *PIECE,
    ],
    align=True,
)
"""A modality: its sources are those from `first` to `last`; next is the head of the source `head` (-1: none)."""


class Fluid(NamedTuple):
    """Piecewise constant shares: from time `starts[group, k]` on, class c of that group, which has had `served[c, k]`
    tokens, gets `rates[c, k]` of them. A group has `corners[group]` of such pieces.
    """

    starts: Floats
    served: Floats
    rates: Floats
    corners: Ints


LOOP = numba.njit(cache=True, _nrt=False)
"""For what allocates nothing: counting references to the arrays passed on took more than half of the time."""


@LOOP
def _below(key, half, bound):  # type: ignore[no-untyped-def]
    """A number below `bound` (at most 2^32), as good as random in (key, half): two rounds of multiply and shift."""
    hashed = (key ^ np.uint64(half)) * np.uint64(0xBF58476D1CE4E5B9)
    hashed = (hashed ^ (hashed >> np.uint64(32))) * np.uint64(0x94D049BB133111EB)
    return np.int64(((hashed >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32))


@LOOP
def permuted(slot, slots, key):  # type: ignore[no-untyped-def]
    """Where `slot` of `slots` goes: a bijection, by a Feistel network over two halves of about the root of `slots`.

    The halves make at most a few more numbers than `slots`; one beyond is permuted again until it is not.
    """
    low = np.int64(np.ceil(np.sqrt(slots)))
    high = (slots + low - 1) // low
    place = slot
    while True:
        left = np.int64(np.uint64(place) // np.uint64(low))
        right = place - left * low
        for turn in range(0, MORE_ROUNDS if slots < FEW else ROUNDS, 2):
            left += _below(key + np.uint64(turn) * STEP, right, high)
            left -= high if left >= high else 0
            right += _below(key + np.uint64(turn + 1) * STEP, left, low)
            right -= low if right >= low else 0
        place = left * low + right
        if place < slots:
            return place


@numba.njit(cache=True)
def fill_permutation(slots, key):  # type: ignore[no-untyped-def]
    """All of `permuted`, in order."""
    found = np.empty(slots, np.int64)
    for slot in range(slots):
        found[slot] = permuted(slot, slots, np.uint64(key))
    return found


@numba.njit(cache=True)
def sums(source, tokens, repeats, sources):  # type: ignore[no-untyped-def]
    """Samples and tokens of each source, each sample `repeats` times."""
    samples, total = np.zeros(sources, np.int64), np.zeros(sources, np.int64)
    for sample in range(len(source)):
        samples[source[sample]] += repeats[sample]
        total[source[sample]] += np.int64(repeats[sample]) * tokens[sample]
    return samples, total


@numba.njit(cache=True)
def group_members(source, tokens, repeats, places, members):  # type: ignore[no-untyped-def]
    """Fills `members` with (number, tokens) of samples, each `repeats` times, those of a source together from its place
    in `places` on (-1: left out).
    """
    filled = places.copy()
    for sample in range(len(source)):
        name = source[sample]
        if filled[name] >= 0:
            for _ in range(repeats[sample]):
                members[filled[name], 0] = sample
                members[filled[name], 1] = tokens[sample]
                filled[name] += 1


@LOOP
def when(fluid, group, class_, tokens):  # type: ignore[no-untyped-def]
    """When the fluid has served a class so many tokens; inf: never."""
    corner, last = 0, fluid.corners[group] - 1
    while corner < last and tokens > fluid.served[class_, corner + 1]:
        corner += 1
    rate, start, more = fluid.rates[class_, corner], fluid.starts[group, corner], tokens - fluid.served[class_, corner]
    return start + more / rate if rate > 0 else np.inf if more > 0 else start


@LOOP
def _enter(classes, number, fluid, group, corner):  # type: ignore[no-untyped-def]
    """Puts a class into a piece, and on to the first in which it is served more than it has."""
    one, last = classes[number], fluid.corners[group] - 1
    while corner < last and one.cum >= fluid.served[number, corner + 1]:
        corner += 1
    rate = fluid.rates[number, corner]
    one.corner, one.start, one.served = corner, fluid.starts[group, corner], fluid.served[number, corner]
    one.pace = 1 / rate if rate > 0 else np.inf  # no share from here on
    one.until = fluid.served[number, corner + 1] if corner < last else np.inf
    one.end = one.start + (one.cum - one.served) * one.pace if rate > 0 else np.inf


@LOOP
def _due(classes, number, tokens, fluid, group):  # type: ignore[no-untyped-def]
    """When the fluid comes to the next sample of a class, of so many tokens, and when it has served it."""
    one = classes[number]
    if one.cum >= one.until:
        _enter(classes, number, fluid, group, one.corner)
    after = one.cum + tokens
    one.begin = one.end
    one.end = one.start + (after - one.served) * one.pace if after <= one.until else when(fluid, group, number, after)


@LOOP
def _soonest(classes, first, last, now):  # type: ignore[no-untyped-def]
    """Which head to serve: of those that may begin the one that ends first, else the one to begin first; or -1.

    One that the fluid never comes to is never served.
    """
    chosen, waiting = -1, -1
    end, begin = np.inf, np.inf
    for number in range(first, last):
        one = classes[number]
        if one.head < 0:
            continue
        if one.begin <= now:
            if one.end < end or chosen < 0:
                chosen, end = number, one.end
        elif one.begin < begin:
            waiting, begin = number, one.begin
    return chosen if chosen >= 0 else waiting


@LOOP
def _look_ahead(one, members, ahead):  # type: ignore[no-untyped-def]
    """Fills a source's row of `ahead` with its next samples; none where it has run out."""
    if one.slot == one.slots:
        one.slot = 0
        one.turn += 1
    one.next = 0
    one.known = min(AHEAD, one.slots - one.slot) if one.turn < one.passes else 0
    key = (one.key + np.uint64(one.turn)) * STEP
    for place in range(one.known):
        ahead[place, 0] = permuted(one.slot + place, one.slots, key)
    for place in range(one.known):  # by itself, so that many of these loads are under way at once
        found = one.first + ahead[place, 0]
        ahead[place, 0], ahead[place, 1] = members[found, 0], members[found, 1]


@LOOP
def _next_head(sources, members, ahead, inner, group, source, alone):  # type: ignore[no-untyped-def]
    """Puts a source's next sample at its head; one that is `alone` in its modality is always the next."""
    one = sources[source]
    if one.next == one.known:
        _look_ahead(one, members, ahead[source])
    if one.known == 0:
        one.head = -1
        return
    one.head = ahead[source, one.next, 0]
    one.tokens = ahead[source, one.next, 1]
    one.next += 1
    one.slot += 1
    if not alone:
        _due(sources, source, one.tokens, inner, group)


@LOOP
def _next_of_group(sources, groups, outer, group):  # type: ignore[no-untyped-def]
    """Puts the next source of a modality at its head."""
    one = groups[group]
    if one.last - one.first == 1:
        one.head = one.first if sources[one.first].head >= 0 else -1
    else:
        one.head = _soonest(sources, one.first, one.last, one.cum)
    if one.head >= 0:
        _due(groups, group, sources[one.head].tokens, outer, 0)


@LOOP
def begin(sources, groups, members, outer, inner, ahead):  # type: ignore[no-untyped-def]
    """Puts the first heads into place."""
    for group in range(len(groups)):
        _enter(groups, group, outer, 0, 0)
        for source in range(groups[group].first, groups[group].last):
            _enter(sources, source, inner, group, 0)
            _next_head(sources, members, ahead, inner, group, source, False)
        _next_of_group(sources, groups, outer, group)


@LOOP
def advance(sources, groups, members, outer, inner, ahead, limit, out):  # type: ignore[no-untyped-def]
    """Writes the next samples to `out`; returns how many: fewer where `limit` tokens, or the end, came first.

    `ahead` [sources, AHEAD, 2]: room that holds nothing between calls.
    """
    now = 0
    for group in range(len(groups)):
        now += groups[group].cum
    for source in range(len(sources)):
        sources[source].next = sources[source].known = -1
    for count in range(len(out)):
        group = _soonest(groups, 0, len(groups), now) if now < limit else -1
        if group < 0:
            return count
        source = groups[group].head
        one = sources[source]
        out[count] = one.head
        now += one.tokens
        one.cum += one.tokens
        groups[group].cum += one.tokens
        alone = groups[group].last - groups[group].first == 1
        _next_head(sources, members, ahead, inner, group, source, alone)
        _next_of_group(sources, groups, outer, group)
    return len(out)
