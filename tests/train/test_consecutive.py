import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.feed.consecutive import first_fit_decreasing, plan_batches

CONTEXT = 20
quiet = settings(deadline=None, derandomize=True, max_examples=60)
counts = st.lists(st.integers(1, CONTEXT + 4), max_size=60)


@quiet
@given(counts, st.integers(1, 4))
def test_every_place_is_covered_once_and_in_order(tokens: list[int], rows: int) -> None:
    batches = list(plan_batches(enumerate(tokens), rows, CONTEXT))
    covered = [place for batch in batches for place in range(batch.start, batch.stop)]
    assert covered == list(range(len(tokens)))
    for batch in batches:
        packed = sorted(place for row in batch.rows for place in row)
        assert sorted([*packed, *batch.too_long]) == list(range(batch.start, batch.stop))
        assert all(sum(tokens[place] for place in row) <= CONTEXT for row in batch.rows)
        assert all(tokens[place] > CONTEXT for place in batch.too_long)
        assert batch.tokens == sum(tokens[place] for place in packed)
        assert len(batch.rows) == rows


@quiet
@given(counts, st.integers(1, 4), st.data())
def test_a_plan_goes_on_from_the_end_of_any_batch(tokens: list[int], rows: int, data: st.DataObject) -> None:
    batches = list(plan_batches(enumerate(tokens), rows, CONTEXT))
    if batches:
        done = data.draw(st.integers(0, len(batches)))
        start = batches[done - 1].stop if done else 0
        rest = list(plan_batches(list(enumerate(tokens))[start:], rows, CONTEXT))
        assert rest == batches[done:]


@quiet
@given(counts, st.integers(1, 4))
def test_a_batch_ends_only_where_neither_way_of_packing_finds_room(tokens: list[int], rows: int) -> None:
    batches = list(plan_batches(enumerate(tokens), rows, CONTEXT))
    for batch, following in itertools.pairwise(batches):
        fits = {p: tokens[p] for p in (*range(batch.start, batch.stop), following.start) if tokens[p] <= CONTEXT}
        assert first_fit_decreasing(fits, rows, CONTEXT) is None


@quiet
@given(st.lists(st.integers(1, CONTEXT), max_size=5), st.integers(1, 3))
def test_first_fit_decreasing_stays_within_its_bound_of_brute_force(tokens: list[int], rows: int) -> None:
    """First-fit decreasing needs at most 11/9 of the best possible rows + 6/9 (Dosa 2007)."""
    best = _fewest_rows(tokens)
    found = first_fit_decreasing(dict(enumerate(tokens)), rows, CONTEXT)
    if found is not None:
        assert best <= rows
    else:
        assert 11 / 9 * best + 6 / 9 > rows


def _fewest_rows(tokens: list[int]) -> int:
    """Brute force: the fewest rows that hold all."""
    for rows in range(len(tokens) + 1):
        for assignment in itertools.product(range(rows), repeat=len(tokens)):
            loads = [0] * rows
            for row, count in zip(assignment, tokens, strict=True):
                loads[row] += count
            if all(load <= CONTEXT for load in loads):
                return rows
    raise AssertionError("one row each always suffices")


def test_packing_wastes_little_on_lengths_like_the_demo() -> None:
    tokens = [38 + (7 * place) % 5 if place % 5 else 300 + (37 * place) % 500 for place in range(3000)]
    batches = list(plan_batches(enumerate(tokens), 8, 1024))[:-1]
    assert sum(batch.tokens for batch in batches) / (len(batches) * 8 * 1024) > 0.95


@pytest.mark.parametrize("tokens", [[], [CONTEXT + 1]])
def test_nothing_to_pack(tokens: list[int]) -> None:
    batches = list(plan_batches(enumerate(tokens), 2, CONTEXT))
    assert [batch.too_long for batch in batches] == ([(0,)] if tokens else [])
