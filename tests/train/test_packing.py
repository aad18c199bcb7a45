import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.feed.packing import LOOK_AHEAD, Ints, Limits, Packer, Row, State, pack, sizes_of

LIMITS = Limits(tokens=20, pictures=4, patches=30)
LIMITED = Limits(tokens=8192, pictures=12, patches=16_384)
"""Of a real run."""
quiet = settings(deadline=None, derandomize=True, max_examples=150)
sample = st.tuples(st.integers(1, 23), st.integers(0, 5), st.integers(0, 33))
epochs = st.lists(sample, max_size=50).map(lambda rows: np.array(rows, np.int64).reshape(-1, 3))
limits = st.builds(
    Limits, st.just(20), st.sampled_from([None, 4]), st.sampled_from([None, 30])
)  # one, two or three at once
windows = st.integers(1, 9)


def naive(sizes: Ints, limits: Limits, look_ahead: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The rule in plain Python, from the set of open positions alone: rows, and what is too long at its place."""
    fits = limits.fit(sizes)
    is_open = set(range(len(sizes)))
    while True:
        held = [position for position in sorted(is_open) if fits[position]]
        first = held[0] if held else len(sizes)
        window = [position for position in held if position < first + look_ahead]
        row, room = [], limits.array.copy()
        for turn in (window, sorted(window, key=lambda position: (-sizes[position, 0], position))):
            for position in turn:
                if position not in row and (sizes[position] <= room).all():
                    row.append(position)
                    room -= sizes[position]
                elif turn is window and position not in row:
                    break
        is_open -= set(row)
        later = [p for p in sorted(is_open) if fits[p] and p < first + look_ahead]
        oldest = later[0] if later else min(first + look_ahead, len(sizes))
        too_long = tuple(position for position in sorted(is_open) if position < oldest and not fits[position])
        is_open -= set(too_long)
        if not row and not too_long:
            return
        yield tuple(sorted(row)), too_long


def fed(packer: Packer, sizes: Ints, portions: Iterator[int]) -> Iterator[tuple[Row, State]]:
    """Rows to the end of the epoch and the state after each, as the sizes come in portions."""
    while packer.wanted < len(sizes):
        packer.add(sizes[packer.wanted : packer.wanted + next(portions)])
        while row := packer.row():
            yield row, packer.state
    while row := packer.row(last=True):
        yield row, packer.state


@quiet
@given(epochs, limits, windows)
def test_every_sample_comes_once_and_no_limit_is_exceeded(sizes: Ints, limits: Limits, look_ahead: int) -> None:
    rows = pack(sizes, limits, look_ahead)
    fits = limits.fit(sizes)
    assert sorted(p for row in rows for p in row.positions) == np.flatnonzero(fits).tolist()
    assert [p for row in rows for p in row.too_long] == np.flatnonzero(~fits).tolist()
    for row in rows:
        assert (sizes[list(row.positions)].sum(axis=0) <= limits.array).all()
        assert row.tokens == sizes[list(row.positions), 0].sum()


@quiet
@given(epochs, limits, windows)
def test_the_oldest_open_sample_comes_next_and_the_window_bounds_the_rest(
    sizes: Ints, limits: Limits, look_ahead: int
) -> None:
    is_open = np.ones(len(sizes), np.bool_)
    for row in pack(sizes, limits, look_ahead):
        is_open[[p for p in row.too_long if not row.positions or p < row.positions[0]]] = False
        if row.positions:
            assert row.positions[0] == np.flatnonzero(is_open)[0]
            assert row.positions[-1] - row.positions[0] < look_ahead
        is_open[[*row.positions, *row.too_long]] = False


@quiet
@given(epochs, limits, windows)
def test_rows_are_those_of_the_rule_in_plain_python(sizes: Ints, limits: Limits, look_ahead: int) -> None:
    found = [(row.positions, row.too_long) for row in pack(sizes, limits, look_ahead)]
    assert found == list(naive(sizes, limits, look_ahead))


@quiet
@given(epochs, limits, windows, st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_rows_do_not_depend_on_how_samples_are_fed(
    sizes: Ints, limits: Limits, look_ahead: int, portions: list[int]
) -> None:
    packer = Packer(limits, look_ahead=look_ahead)
    rows = [row for row, _ in fed(packer, sizes, itertools.cycle(portions))]
    assert rows == pack(sizes, limits, look_ahead)


@quiet
@given(epochs, limits, windows, st.integers(1, 60), st.integers(1, 60))
def test_a_packer_goes_on_from_the_state_after_any_row(
    sizes: Ints, limits: Limits, look_ahead: int, before: int, after: int
) -> None:
    whole = list(fed(Packer(limits, look_ahead=look_ahead), sizes, itertools.repeat(before)))
    for done, (_, state) in enumerate(whole, start=1):
        assert 8 * len(state.packed) <= look_ahead + 7
        rebuilt = Packer(limits, state, look_ahead)
        assert rebuilt.state == state
        assert list(fed(rebuilt, sizes, itertools.repeat(after))) == whole[done:]


def test_a_run_of_mixed_sizes_goes_on_from_512_bytes() -> None:
    """Windows of full size, the whole mixture: what a real run keeps."""
    random = np.random.default_rng(0)
    tokens = random.lognormal(5.5, 1.5, 12_000).astype(np.int64) + 1
    visual = np.where(random.random(12_000) < 0.3, tokens // 2, 0)
    sizes = sizes_of(tokens, visual, visual > 0)
    whole = list(fed(Packer(LIMITED), sizes, itertools.repeat(1_000)))
    assert max(len(state.packed) for _, state in whole) <= LOOK_AHEAD // 8
    for done in range(10, len(whole), 97):
        assert list(fed(Packer(LIMITED, whole[done - 1][1]), sizes, itertools.repeat(5_000))) == whole[done:]


def test_a_row_takes_the_stream_in_order_and_closes_its_gap_from_the_window() -> None:
    rows = pack(_tokens([10, 5, 9, 2, 3, 1, 8]), Limits(20))
    assert [row.positions for row in rows] == [(0, 1, 3, 4), (2, 5, 6)]
    assert [row.tokens for row in rows] == [20, 18]


def test_hardly_more_rows_than_all_tokens_fill() -> None:
    """What the epoch's end costs may be one row; all others are full."""
    tokens = np.random.default_rng(1).integers(1, 3_000, 5_000)
    assert len(pack(_tokens(tokens), Limits(8192))) <= -(-int(tokens.sum()) // 8192) + 1


def test_a_sample_too_long_is_told_at_its_place() -> None:
    rows = pack(_tokens([21, 20, 22, 20, 23]), Limits(20))
    assert [(row.positions, row.too_long) for row in rows] == [((1,), (0, 2)), ((3,), (4,))]
    assert pack(_tokens([21, 22]), Limits(20)) == [Row((), 0, (0, 1))]
    assert pack(_tokens([]), Limits(20)) == []


def test_a_state_of_a_longer_window_is_refused() -> None:
    with pytest.raises(ValueError, match="look-ahead 8"):
        Packer(Limits(20), State(0, b"\1\1\1"), look_ahead=8)


def _tokens(tokens: npt.ArrayLike) -> Ints:
    return sizes_of(tokens, np.zeros_like(tokens), np.zeros_like(tokens))
