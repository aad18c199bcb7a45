"""Mixing: exact shares, a pure function of its inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine.mixture import Pool, achieved, epoch_order

SHARES = {"video": 0.24, "image": 0.50, "text": 0.26}


def pool(seed: int, count: int = 600, spread: float = 1.2) -> Pool:
    random = np.random.default_rng(seed)
    modality = random.choice(np.array(list(SHARES)), count, p=[0.2, 0.5, 0.3])
    return Pool(modality, random.lognormal(4.5, spread, count).astype(np.int64) + 1)


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), spread=st.floats(0.0, 2.0), repeats=st.integers(1, 3))
def test_shares_are_exact_to_one_sample(seed: int, spread: float, repeats: int) -> None:
    mixed = pool(seed, spread=spread)
    order = epoch_order(mixed, SHARES, seed=seed, epoch=0, max_repeats=repeats)
    found, total = achieved(mixed, order), mixed.tokens[order].sum()
    largest = mixed.tokens[order].max()
    assert max(abs(found[name] - share) for name, share in SHARES.items()) <= largest / total


def test_shares_hold_all_along_the_epoch() -> None:
    mixed = pool(1, count=5000)
    order = epoch_order(mixed, SHARES, seed=1, epoch=0)
    tokens = mixed.tokens[order]
    for name, share in SHARES.items():
        ahead = np.cumsum(np.where(mixed.modality[order] == name, tokens, 0)) - share * np.cumsum(tokens)
        assert np.abs(ahead).max() <= tokens.max()


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    mixed = pool(2)
    first = epoch_order(mixed, SHARES, seed=5, epoch=3)
    assert (first == epoch_order(mixed, SHARES, seed=5, epoch=3)).all()
    assert not np.array_equal(first, epoch_order(mixed, SHARES, seed=5, epoch=4))
    assert not np.array_equal(first, epoch_order(mixed, SHARES, seed=6, epoch=3))


def test_a_sample_comes_at_most_max_repeats_times() -> None:
    mixed = pool(3)
    for repeats in (1, 2):
        order = epoch_order(mixed, SHARES, seed=0, epoch=0, max_repeats=repeats)
        assert np.bincount(order).max() == repeats


def test_the_scarcest_modality_is_used_up_and_ends_the_epoch() -> None:
    mixed = Pool(np.array(["video"] * 10 + ["image"] * 500 + ["text"] * 500), np.full(1010, 100))
    order = epoch_order(mixed, SHARES, seed=0, epoch=0)
    assert (mixed.modality[order] == "video").sum() == 10
    assert len(order) == pytest.approx(10 / 0.24, abs=2)


def test_epoch_tokens_end_the_epoch() -> None:
    mixed = pool(4, count=3000)
    order = epoch_order(mixed, SHARES, seed=0, epoch=0, epoch_tokens=20_000)
    assert abs(int(mixed.tokens[order].sum()) - 20_000) <= 32 * mixed.tokens.max()


def test_a_single_modality_takes_all() -> None:
    mixed = pool(5)
    order = epoch_order(mixed, {"text": 1.0}, seed=0, epoch=0)
    assert sorted(order) == np.flatnonzero(mixed.modality == "text").tolist()


def test_a_share_without_samples_is_refused() -> None:
    mixed = Pool(np.array(["image"] * 3), np.full(3, 10))
    with pytest.raises(ValueError, match="no video sample"):
        epoch_order(mixed, SHARES, seed=0, epoch=0)
