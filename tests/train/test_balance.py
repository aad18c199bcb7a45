"""Balance: near the best that there is, whatever the costs, and the same on every rank."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.feed.balance import assign, balance, balance_vision

costs = st.lists(st.integers(1, 1000), min_size=1, max_size=8).map(lambda found: np.array(found, np.float64))


def best_of_all(found: np.ndarray, ranks: int) -> float:
    return min(
        np.bincount(np.array(spread), found, ranks).max()
        for spread in itertools.product(range(ranks), repeat=len(found))
    )


@settings(max_examples=60, deadline=None)
@given(found=costs, ranks=st.integers(1, 3))
def test_it_is_near_the_best_of_all(found: np.ndarray, ranks: int) -> None:
    """Graham's bound for longest first, which exchanges can only better: 4/3 - 1/(3 m) of the best."""
    chosen = assign(found, ranks)
    largest = np.bincount(chosen, found, ranks).max()
    assert largest <= best_of_all(found, ranks) * (4 / 3 - 1 / (3 * ranks)) + 1e-9


@settings(max_examples=60, deadline=None)
@given(found=st.lists(st.floats(0, 1e6), max_size=60), ranks=st.integers(1, 9))
def test_equal_counts_are_equal(found: list[float], ranks: int) -> None:
    chosen = assign(np.array(found), ranks, equal_counts=True)
    counts = np.bincount(chosen, minlength=ranks)
    assert counts.sum() == len(found)
    assert counts.max(initial=0) - counts.min() <= 1


def test_exchanges_better_what_longest_first_leaves() -> None:
    """3, 3, 2, 2, 2 over two ranks: longest first comes to 7, the best is 6."""
    chosen = assign(np.array([3.0, 3, 2, 2, 2]), 2)
    assert np.bincount(chosen, [3.0, 3, 2, 2, 2]).tolist() == [6, 6]


@pytest.mark.parametrize("ranks", [8, 64, 256])
def test_samples_of_all_lengths_are_level(ranks: int) -> None:
    random = np.random.default_rng(0)
    found = random.lognormal(6, 1.2, 4096) ** 1.3
    chosen = assign(found, ranks)
    told = balance(found, chosen, ranks)
    assert told.over_best <= 1.01
    assert told.floor == pytest.approx(found.max() / (found.sum() / ranks))
    assert np.array_equal(chosen, assign(found, ranks))


def test_one_piece_may_be_all_there_is() -> None:
    told = balance(np.array([9.0, 1.0]), np.array([0, 1]), 2)
    assert (told.max_over_mean, told.floor, told.over_best) == (1.8, 1.8, 1.0)
    with pytest.raises(ValueError, match="no piece of work has a cost"):
        balance(np.zeros(3), np.zeros(3, np.int64), 2)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), ranks=st.integers(1, 8), pictures=st.integers(1, 200))
def test_pictures_are_encoded_by_whoever_has_time(seed: int, ranks: int, pictures: int) -> None:
    random = np.random.default_rng(seed)
    found, tokens = random.lognormal(3, 0.5, pictures), random.integers(1, 50, pictures)
    owners = random.integers(0, max(1, ranks // 2), pictures)  # half of the ranks have them all
    plan = balance_vision(found, tokens, owners, ranks)
    before, after = balance(found, owners, ranks), balance(found, plan.ranks, ranks)
    assert after.max_over_mean <= before.max_over_mean + 1e-9
    assert after.over_best <= 4 / 3
    moved = plan.ranks != owners
    assert plan.sent.sum() == tokens[moved].sum()
    assert (plan.sent.diagonal() == 0).all()
    for source, target in zip(*np.nonzero(plan.sent), strict=True):
        assert plan.sent[source, target] == tokens[(plan.ranks == source) & (owners == target)].sum()


def test_level_work_stays_where_it_is() -> None:
    owners = np.repeat(np.arange(4), 5)
    plan = balance_vision(np.ones(20), np.ones(20, np.int64), owners, 4)
    assert np.array_equal(plan.ranks, owners)
    assert not plan.sent.any()
