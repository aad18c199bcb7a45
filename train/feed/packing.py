"""Which samples share a row: pure functions over sizes, so that every rank computes the same plan.

Packing is memoryless. The window holds the open (not yet packed) samples among `look_ahead` consecutive positions of
the stream, the oldest open one first; the next row is that oldest sample and what of the window fills its row best.
So the next row is a function of the set of open positions alone, whatever was read ahead, in whatever portions: a
packer is rebuilt from the oldest open position and a bitmap of what behind it is packed already (`State`).

Sizes are the columns (tokens, pictures, patches) of each sample; a row must not exceed any limit on their sums.
"""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

LOOK_AHEAD = 4096
UNLIMITED = 2**62

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a row holds at most: tokens, pictures (images and frames), patches of the vision tower; None: any number."""

    tokens: int
    pictures: int | None = None
    patches: int | None = None

    @property
    def array(self) -> Ints:
        """[3], unlimited ones as `UNLIMITED`."""
        both = [UNLIMITED if limit is None else limit for limit in (self.pictures, self.patches)]
        return np.array([self.tokens, *both], np.int64)

    def fit(self, sizes: Ints) -> npt.NDArray[np.bool_]:
        """Which samples of `sizes` [N, 3] a row can hold at all."""
        return np.asarray((sizes <= self.array).all(axis=1))


def sizes_of(tokens: npt.ArrayLike, visual_tokens: npt.ArrayLike, pictures: npt.ArrayLike, merge: int = 2) -> Ints:
    """Sizes [N, 3] from columns of the shard index; `merge` squared patches make one visual token."""
    return np.stack([tokens, pictures, np.multiply(visual_tokens, merge**2)], axis=1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class State:
    """A packer's place: the oldest open position, and a bit for each position from it on, set where it is packed.

    Bits are little-endian, without the zero bytes at the end: at most `look_ahead` / 8 bytes.
    """

    oldest: int = 0
    packed: bytes = b""


@dataclass(frozen=True, slots=True)
class Row:
    """Positions that share a row, in stream order, and their tokens.

    `too_long` are positions that no row can hold, reported where they become the oldest open: whoever consumes the row
    must record them. A row at the end of an epoch may have nothing else.
    """

    positions: tuple[int, ...]
    tokens: int
    too_long: tuple[int, ...] = ()


class Packer:
    """Rows of one epoch's stream, from any state on. Memory: the sizes added that are not yet packed."""

    def __init__(self, limits: Limits, state: State | None = None, look_ahead: int = LOOK_AHEAD) -> None:
        """Goes on from `state`: the first sizes to `add` are those of its oldest position.

        Raises ValueError for a state of a longer look-ahead.
        """
        state = state or State()
        if len(state.packed) * 8 > look_ahead + 7:
            raise ValueError(f"a packer's state of {len(state.packed)} bytes is not one of look-ahead {look_ahead}")
        self.limits, self.look_ahead = limits.array, look_ahead
        # Entries are counted from position `_start`; the first open one is `_oldest`.
        self._start, self._oldest = state.oldest, 0
        self._sizes = np.zeros((0, 3), np.int64)
        self._packed = np.zeros(0, np.bool_)
        self._later = np.unpackbits(np.frombuffer(state.packed, np.uint8), bitorder="little").astype(np.bool_)
        """Marks of positions whose sizes are not known yet."""
        self._window = np.zeros(0, np.int64)
        """Open entries before `_entered` that fit a row, the longest first, equals in stream order; of those packed
        since the last row nothing is said."""
        self._entered = 0

    @property
    def state(self) -> State:
        """The place after the last row."""
        marks = np.concatenate([self._packed[self._oldest :], self._later])
        packed = np.packbits(marks, bitorder="little").tobytes().rstrip(b"\0")
        return State(self._start + self._oldest, packed)

    @property
    def wanted(self) -> int:
        """The position whose sizes come next."""
        return self._start + len(self._sizes)

    def add(self, sizes: Ints) -> None:
        """Takes the sizes [N, 3] of the next N positions, and forgets those of what is packed."""
        gone = self._oldest
        open_ = self._window[~self._packed[self._window]]
        marks = np.zeros(len(sizes), np.bool_)
        marks[: len(self._later)] = self._later[: len(sizes)]
        self._sizes = np.concatenate([self._sizes[gone:], sizes])
        self._packed = np.concatenate([self._packed[gone:], marks])
        self._later = self._later[len(sizes) :]
        self._start, self._oldest = self._start + gone, 0
        self._window, self._entered = open_ - gone, max(self._entered - gone, 0)

    def row(self, *, last: bool = False) -> Row | None:
        """The next row; None until enough is added to fill the window, or, where nothing follows (`last`), at the end.

        With `last` the window drains: the last rows are as short as the epoch leaves them.
        """
        known = len(self._sizes)
        first = int(_first_fitting(self._sizes, self._packed, self.limits, self._oldest))
        stop = first + self.look_ahead
        if stop > known and not last:
            return None
        begin, stop = self._oldest, min(stop, known)
        chosen = np.zeros(0, np.int64)
        if first < known:
            begin_new = min(max(self._entered, first), stop)
            self._window = _entered(self._sizes, self._packed, self._window, self.limits, begin_new, stop)
            self._entered = max(self._entered, stop)
            chosen = _fill(self._sizes, self._packed, self._window, self.limits, first, stop)
            self._packed[chosen] = True
        self._oldest = int(_first_fitting(self._sizes[:stop], self._packed, self.limits, first))
        passed = np.arange(begin, self._oldest)
        too_long = passed[~self._packed[begin : self._oldest]]
        self._packed[too_long] = True
        if not len(chosen) and not len(too_long):
            return None
        tokens = int(self._sizes[chosen, 0].sum())
        return Row(self._positions(chosen), tokens, self._positions(too_long))

    def _positions(self, entries: Ints) -> tuple[int, ...]:
        return tuple((entries + self._start).tolist())


def pack(sizes: Ints, limits: Limits, look_ahead: int = LOOK_AHEAD) -> list[Row]:
    """All rows of an epoch of `sizes` [N, 3]."""
    packer = Packer(limits, look_ahead=look_ahead)
    packer.add(sizes)
    return list(iter(lambda: packer.row(last=True), None))


@numba.njit(cache=True)
def _fits(size, room):  # type: ignore[no-untyped-def]
    return size[0] <= room[0] and size[1] <= room[1] and size[2] <= room[2]


@numba.njit(cache=True)
def _first_fitting(sizes, packed, limits, begin):  # type: ignore[no-untyped-def]
    """The first open entry from `begin` on that a row can hold, or the number of entries."""
    for entry in range(begin, len(sizes)):
        if not packed[entry] and _fits(sizes[entry], limits):
            return entry
    return len(sizes)


@numba.njit(cache=True)
def _entered(sizes, packed, window, limits, begin, stop):  # type: ignore[no-untyped-def]
    """The window without what is packed, and with the open entries of `begin` to `stop` sorted in."""
    fresh = np.empty(stop - begin, np.int64)
    count = 0
    for entry in range(begin, stop):
        if not packed[entry] and _fits(sizes[entry], limits):
            fresh[count] = entry
            count += 1
    fresh = fresh[:count][np.argsort(-sizes[fresh[:count], 0], kind="mergesort")]
    merged = np.empty(len(window) + count, np.int64)
    filled, taken = 0, 0
    for entry in window:
        if packed[entry]:
            continue
        while taken < count and sizes[fresh[taken], 0] > sizes[entry, 0]:
            merged[filled] = fresh[taken]
            filled, taken = filled + 1, taken + 1
        merged[filled] = entry
        filled += 1
    for place in range(taken, count):
        merged[filled] = fresh[place]
        filled += 1
    return merged[:filled]


@numba.njit(cache=True)
def _next_within(sizes, window, low, tokens):  # type: ignore[no-untyped-def]
    """The first place from `low` on whose entry has at most so many tokens; the window's length if none has."""
    high = len(window)
    while low < high:
        middle = (low + high) // 2
        if sizes[window[middle], 0] > tokens:
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(cache=True)
def _fill(sizes, packed, window, limits, first, stop):  # type: ignore[no-untyped-def]
    """Entries of the row that begins with `first`: the next of the stream until one does not fit, then the longest
    of the window that still does, again and again.

    Stream order first keeps the mixture of a row near that of the stream, and saves up the short samples that close
    the gaps; the longest first from the start would use up the long ones and then lack them.
    """
    room = limits - sizes[first]
    taken = np.zeros(stop - first, np.bool_)
    taken[0] = True
    for entry in range(first + 1, stop):
        if packed[entry] or not _fits(sizes[entry], limits):
            continue
        if not _fits(sizes[entry], room):
            break
        taken[entry - first] = True
        room -= sizes[entry]
    place = 0
    while room[0] > 0:
        place = _next_within(sizes, window, place, room[0])
        if place == len(window):
            break
        entry = window[place]
        if not taken[entry - first] and _fits(sizes[entry], room):
            taken[entry - first] = True
            room -= sizes[entry]
        place += 1
    return np.flatnonzero(taken) + first
