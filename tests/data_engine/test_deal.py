"""The deal: every rank's own stream keeps the shares of the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine.mixture import Pool, Schedule
from data_engine.recipe import Mixture
from data_engine.shard_index import Source
from data_engine.stream.deal import Deal

SHARES = {"video": 0.24, "image": 0.50, "text": 0.26}
SOURCES = tuple(Source(name, name) for name in SHARES)  # type: ignore[arg-type]
SIZES = {
    "lognormal": lambda random, size: [
        np.minimum(random.lognormal(mean, spread, size), 75_000) + 1
        for mean, spread in ((8.5, 1.0), (6.5, 1.0), (6.0, 1.2))
    ],
    "all alike": lambda random, size: [np.full(size, 1000)] * 3,
    "alike in a modality": lambda random, size: [np.full(size, tokens) for tokens in (8000, 700, 300)],
}


def mixed(sizes: str, places: int) -> tuple[np.ndarray, np.ndarray]:
    """(modality, tokens) of at least `places` places of an epoch at 24/50/26."""
    tokens = np.concatenate(SIZES[sizes](np.random.default_rng(0), places)).astype(np.int32)
    pool = Pool(SOURCES, np.repeat(np.arange(3, dtype=np.uint16), places), tokens)
    order = Schedule(pool, Mixture(shares=SHARES), seed=0, epoch=0).order()  # type: ignore[arg-type]
    return pool.source[order].astype(np.int64), pool.tokens[order]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("world_size", [2, 3, 8, 64])
def test_every_rank_keeps_the_shares(sizes: str, world_size: int) -> None:
    """At every point past 10,000 samples of a rank: error <= max(0.01 points, its largest sample / its tokens)."""
    modality, tokens = mixed(sizes, 12_000 * world_size)
    dealt = Deal(3, world_size).ranks(modality, tokens)
    points = 0
    for rank in range(world_size):
        mine, names = tokens[dealt == rank].astype(float), modality[dealt == rank]
        total, largest = np.cumsum(mine), np.maximum.accumulate(mine)
        bound = np.maximum(1e-4, largest / total)[10_000:]
        for name, share in enumerate(SHARES.values()):
            had = np.cumsum(np.where(names == name, mine, 0))
            assert (np.abs(had / total - share)[10_000:] <= bound).all()
        points += len(bound)
    assert points > 100 * world_size


@settings(max_examples=50)
@given(world_size=st.integers(1, 9), places=st.integers(0, 200), seed=st.integers(0, 99))
def test_each_round_gives_one_place_to_each_rank(world_size: int, places: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    modality, tokens = random.integers(0, 3, places), random.integers(1, 999, places).astype(np.int32)
    dealt = Deal(3, world_size).ranks(modality, tokens)
    whole = places // world_size * world_size
    assert (np.sort(dealt[:whole].reshape(-1, world_size)) == np.arange(world_size)).all()
    assert len(set(dealt[whole:])) == places - whole


@settings(max_examples=50)
@given(world_size=st.integers(1, 5), cut=st.integers(0, 40), seed=st.integers(0, 99))
def test_rounds_can_be_dealt_in_several_calls(world_size: int, cut: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    modality, tokens = random.integers(0, 3, 200), random.integers(1, 999, 200).astype(np.int32)
    deal, at = Deal(3, world_size), cut * world_size
    parts = [deal.ranks(modality[:at], tokens[:at]), deal.ranks(modality[at:], tokens[at:])]
    assert (np.concatenate(parts) == Deal(3, world_size).ranks(modality, tokens)).all()
