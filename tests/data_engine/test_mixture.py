"""Mixing: exact shares at every place, every sample as often as it should come, a pure function of its inputs."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from xxhash import xxh3_64_hexdigest

from data_engine import repeats
from data_engine.mixture import TAIL, Pool, Schedule, achieved, fluid
from data_engine.mixture_kernels import fill_permutation
from data_engine.recipe import Mixture
from data_engine.shard_index import Source, binary_ids

SHARES = {"video": 0.24, "image": 0.50, "text": 0.26}
CORPORA = (("image", "faces"), ("image", "stamps"), ("text", "books"), ("video", "films"), ("video", "tiny"))


def pool(seed: int, count: int = 400, spread: float = 1.2, *, repeated: bool = False) -> Pool:
    random = np.random.default_rng(seed)
    source = random.choice(len(CORPORA), count, p=[0.3, 0.2, 0.3, 0.18, 0.02]).astype(np.uint16)
    source[: len(CORPORA)] = np.arange(len(CORPORA))
    tokens = random.lognormal(4.5, spread, count).astype(np.int32) + 1
    often = random.choice(4, count, p=[0.1, 0.6, 0.2, 0.1]).astype(np.uint8) if repeated else None
    if often is not None:
        often[: len(CORPORA)] = 1
    return Pool([Source(*names) for names in CORPORA], source, tokens, often)  # type: ignore[arg-type]


def mixture(**changes: Any) -> Mixture:
    return Mixture.model_validate({"shares": SHARES, **changes})


shares = (
    st.lists(st.integers(0, 20), min_size=3, max_size=3)
    .filter(any)
    .map(lambda parts: dict(zip(SHARES, (part / sum(parts) for part in parts), strict=True)))
)
mixtures = st.builds(
    mixture,
    shares=shares,
    phases=st.lists(st.builds(lambda t, s: {"tokens": t, "shares": s}, st.integers(1, 20_000), shares), max_size=2),
    weights=st.sampled_from([{}, {"faces": 1.0, "stamps": 3.0}, {"films": 5, "tiny": 0.1}]),
    when_out=st.sampled_from(["stop", "renormalise", "repeat"]),
    epoch_tokens=st.sampled_from([None, None, 9_000]),
)


def modality(mixed: Pool, order: np.ndarray) -> np.ndarray:
    return np.array([source.modality for source in mixed.sources])[mixed.source[order]]


def fluid_of(pieces: list[dict[str, Any]], name: str, total: float) -> float:
    """Tokens of a modality when all have had `total`: the integral of its share."""
    ends = [piece["from"] for piece in pieces[1:]] + [float("inf")]
    return sum(
        piece["shares"][name] * max(0.0, min(total, end) - piece["from"])
        for piece, end in zip(pieces, ends, strict=True)
    )


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10_000), spread=st.floats(0.0, 2.0), chosen=mixtures, repeated=st.booleans())
def test_shares_hold_at_every_place(seed: int, spread: float, chosen: Mixture, repeated: bool) -> None:
    """Never further from the integral of its share than the largest sample so far, or the one it has next."""
    mixed = pool(seed, spread=spread, repeated=repeated)
    schedule = Schedule(mixed, chosen, seed=seed, epoch=0)
    order = schedule.order()
    tokens, names = mixed.tokens[order].astype(float), modality(mixed, order)
    totals, largest = np.cumsum(tokens), np.maximum.accumulate(tokens)
    pieces = schedule.pieces()
    for name in schedule.names:
        had = np.cumsum(np.where(names == name, tokens, 0))
        wanted = np.array([fluid_of(pieces, name, total) for total in totals])
        bound = np.maximum(largest, next_of(mixed, order, name)) + len(pieces)  # `pieces` are told in whole tokens
        assert (np.abs(had - wanted) <= bound).all()
        assert np.allclose(schedule.targets(totals)[:, schedule.names.index(name)], wanted, atol=len(pieces))


def next_of(mixed: Pool, order: np.ndarray, name: str) -> np.ndarray:
    """Tokens of a modality's next sample after each place; after its last, those of its largest."""
    mine = np.flatnonzero(modality(mixed, order) == name)
    largest = mixed.tokens[modality(mixed, np.arange(len(mixed.tokens))) == name].max()
    return np.append(mixed.tokens[order[mine]], largest)[np.searchsorted(mine, np.arange(len(order)), side="right")]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), chosen=mixtures, repeated=st.booleans())
def test_it_is_the_schedule_of_the_definition(seed: int, chosen: Mixture, repeated: bool) -> None:
    """The kernels against the rule written out: of the heads that may begin, the one whose fluid ends first."""
    mixed = pool(seed, count=60, repeated=repeated)
    schedule = Schedule(mixed, chosen, seed=seed, epoch=3)
    assert schedule.order().tolist() == by_the_rule(schedule, len(schedule))


def by_the_rule(schedule: Schedule, count: int) -> list[int]:
    plan = schedule._plan
    given, order = Counter[int](), []
    cum_source, cum_group = Counter[int](), Counter[int]()

    def head(source: int) -> int | None:
        first, slots, passes, key = (int(plan.sources[source][name]) for name in ("first", "slots", "passes", "key"))
        turn, slot = divmod(given[source], slots)
        if turn >= passes:
            return None
        place = fill_permutation(slots, np.uint64((key + turn) % 2**64 * 0x9E3779B97F4A7C15 % 2**64))[slot]
        return int(plan.members[first + place, 0])

    def when(flow: Any, group: int, number: int, tokens: int, *, more: bool) -> float:
        corner, last = 0, int(flow.corners[group]) - 1
        served = flow.served[number]
        while corner < last and (tokens > served[corner + 1] or (more and tokens >= served[corner + 1])):
            corner += 1
        rate = flow.rates[number, corner]
        left = tokens - served[corner]
        if rate == 0:
            return float("inf") if left > 0 or more else float(flow.starts[group, corner])
        return float(flow.starts[group, corner] + left * (1 / rate))

    def best(heads: dict[int, tuple[float, float]], now: int) -> int:
        may = {name: end for name, (begin, end) in heads.items() if begin <= now}
        return min(may or heads, key=lambda name: may[name] if may else heads[name][0])

    for _ in range(count):
        heads, chosen = {}, {}
        for group, (first, last) in enumerate(zip(plan.groups["first"], plan.groups["last"], strict=True)):
            own = {}
            for source in range(first, last):
                if (found := head(source)) is not None:
                    tokens = int(schedule.pool.tokens[found])
                    before = cum_source[source]
                    own[source] = (
                        when(plan.inner, group, source, before, more=True),
                        when(plan.inner, group, source, before + tokens, more=False),
                    )
            if own:
                chosen[group] = best(own, cum_group[group])
                tokens = int(schedule.pool.tokens[head(chosen[group])])
                before = cum_group[group]
                heads[group] = (
                    when(plan.outer, 0, group, before, more=True),
                    when(plan.outer, 0, group, before + tokens, more=False),
                )
        group = best(heads, sum(cum_group.values()))
        sample = head(chosen[group])
        assert sample is not None
        order.append(sample)
        given[chosen[group]] += 1
        cum_source[chosen[group]] += int(schedule.pool.tokens[sample])
        cum_group[group] += int(schedule.pool.tokens[sample])
    return order


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), passes=st.integers(1, 3), repeated=st.booleans())
def test_every_sample_comes_as_often_as_it_should(seed: int, passes: int, repeated: bool) -> None:
    mixed = pool(seed, count=2000, repeated=repeated)
    often = np.ones(len(mixed.tokens), int) if mixed.repeats is None else mixed.repeats.astype(int)
    counts = lambda **changes: np.bincount(  # noqa: E731
        Schedule(mixed, mixture(**changes), seed=seed, epoch=1).order(), minlength=len(often)
    )
    assert (counts(when_out="renormalise", max_repeats=passes) == passes * often).all()
    stopped = counts(max_repeats=passes)
    assert (stopped <= passes * often).all()
    used = [stopped[mixed.source == source].sum() / often[mixed.source == source].sum() for source in (0, 2, 3)]
    assert max(used) > 0.9 * passes  # the scarcest is all but used up
    again = counts(when_out="repeat")
    whole, least = again // np.maximum(often, 1), []
    for source in range(len(CORPORA)):
        turns = whole[(mixed.source == source) & (often > 0)]
        assert turns.max() - turns.min() <= 1  # nothing comes a third time before all have come twice
        least.append(turns.min())
    assert min(least) >= 1


@pytest.mark.parametrize("slots", [1, 2, 3, 7, 100, 1009, 65_536, 65_537])
def test_a_permutation_gives_each_slot_one_place(slots: int) -> None:
    for key in (0, 1, 2**63):
        assert sorted(fill_permutation(slots, np.uint64(key))) == list(range(slots))


def test_permutations_are_as_good_as_random() -> None:
    """Where a slot goes, how far neighbours end up apart, and what comes after what, over many keys."""
    slots, keys = 30, 6000
    random = np.random.default_rng(0)
    found = np.array([fill_permutation(slots, key) for key in random.integers(0, 2**63, keys, np.uint64)])
    for slot in (0, 1, slots // 2, slots - 1):
        assert chisquare(np.bincount(found[:, slot], minlength=slots)).pvalue > 1e-4
    for step in (1, 5, 15):
        gaps = (found[:, step] - found[:, 0]) % slots
        assert chisquare(np.bincount(gaps, minlength=slots)[1:]).pvalue > 1e-4
    assert abs(np.corrcoef(fill_permutation(100_000, np.uint64(5)), np.arange(100_000))[0, 1]) < 0.02


def test_it_begins_anywhere() -> None:
    mixed = pool(1, count=200_000)
    schedule = Schedule(mixed, mixture(when_out="renormalise"), seed=1, epoch=0)
    whole = schedule.order()
    assert len(whole) == len(schedule) == 200_000
    for start in (0, 1, 65_535, 65_536, 65_537, 131_072, 199_999, 200_000):
        parts = list(schedule.chunks(start, 7_777))
        assert np.array_equal(np.concatenate([*parts, np.zeros(0, np.int32)]), whole[start:])


def test_it_is_a_function_of_seed_and_epoch_on_every_machine() -> None:
    """Another process comes to the same; so does another machine: the digest is of one order once and for all."""
    code = (
        "from tests.data_engine.test_mixture import *;"
        "print(xxh3_64_hexdigest(Schedule(pool(7), mixture(), seed=5, epoch=3).order().tobytes()))"
    )
    root = Path(__file__).parents[2]
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert told.stdout.strip() == GOLDEN
    orders = {
        (seed, epoch): Schedule(pool(7), mixture(), seed=seed, epoch=epoch).order().tobytes()
        for seed, epoch in ((5, 3), (5, 4), (6, 3))
    }
    assert xxh3_64_hexdigest(orders[5, 3]) == GOLDEN
    assert len(set(orders.values())) == 3


GOLDEN = "4819418e467cbcd4"


def test_a_tiny_source_comes_evenly() -> None:
    random = np.random.default_rng(0)
    tokens = random.integers(50, 150, 10_000).astype(np.int32)
    source = np.zeros(10_000, np.uint16)
    source[random.choice(10_000, 5, replace=False)] = 1
    mixed = Pool([Source("text", "large"), Source("text", "tiny")], source, tokens)
    order = Schedule(mixed, mixture(shares={"text": 1.0}), seed=0, epoch=0).order()
    places = np.flatnonzero(mixed.source[order] == 1)
    total, tiny = tokens.sum(), tokens[mixed.source == 1].sum()
    before = np.cumsum(tokens[order])[places] - tokens[order][places]
    had = np.cumsum(tokens[order][places])
    assert len(places) == 5
    assert (before <= had / tiny * total + 150).all()
    assert (before >= (had - tokens[order][places]) / tiny * total - 150).all()


def test_weights_hold_within_a_modality() -> None:
    mixed = pool(3, count=5_000)
    chosen = mixture(weights={"faces": 1.0, "stamps": 3.0})
    order = Schedule(mixed, chosen, seed=0, epoch=0).order()
    tokens = np.bincount(mixed.source[order], mixed.tokens[order], len(CORPORA))
    assert tokens[1] / tokens[:2].sum() == pytest.approx(0.75, abs=mixed.tokens.max() / tokens[:2].sum())


def test_phases_come_first_and_one_may_lack_a_modality() -> None:
    mixed = pool(4, count=5_000)
    first = {"tokens": 30_000, "shares": {"text": 1.0}}
    second = {"tokens": 50_000, "shares": {"text": 0.5, "image": 0.5}}
    order = Schedule(mixed, mixture(phases=[first, second]), seed=0, epoch=0).order()
    total, names, largest = np.cumsum(mixed.tokens[order]), modality(mixed, order), int(mixed.tokens.max())
    assert set(names[total < 30_000 - largest]) == {"text"}
    assert set(names[total < 80_000 - largest]) == {"text", "image"}
    later = order[total > 80_000]
    assert achieved(mixed, later)["video"] == pytest.approx(0.24, abs=3 * largest / mixed.tokens[later].sum())


@pytest.mark.parametrize("when_out", ["stop", "renormalise", "repeat"])
def test_a_share_that_ends_with_its_phase_ends(when_out: str) -> None:
    mixed = pool(4, count=5_000)
    first = {"tokens": 30_000, "shares": {"text": 0.5, "image": 0.5}}
    chosen = mixture(shares={"image": 1.0}, phases=[first], when_out=when_out)
    order = Schedule(mixed, chosen, seed=0, epoch=0).order()
    text = modality(mixed, order) == "text"
    largest = int(mixed.tokens.max())
    assert abs(mixed.tokens[order[text]].sum() - 15_000) < largest
    left_out = set(np.flatnonzero(mixed.source < 2).tolist()) - set(order[~text].tolist())
    assert len(left_out) <= (TAIL + 2 if when_out == "stop" else 0)  # `stop` looks back for the best end


def test_an_epoch_that_has_fewer_tokens_than_asked_for_loses_none() -> None:
    for seed in range(100):
        mixed = pool(seed, count=60)
        chosen = mixture(when_out="renormalise", epoch_tokens=10**9)
        assert sorted(Schedule(mixed, chosen, seed=seed, epoch=0).order().tolist()) == list(range(60))


def test_weights_of_corpora_left_out_do_no_harm() -> None:
    mixed = pool(1)
    narrowed = Pool(mixed.sources, mixed.source, mixed.tokens, np.isin(mixed.source, [0, 2, 3]).astype(np.uint8))
    order = Schedule(narrowed, mixture(weights={"faces": 1, "stamps": 3}), seed=0, epoch=0).order()
    assert set(mixed.source[order].tolist()) == {0, 2, 3}
    with pytest.raises(ValueError, match="samples of 'faces' have no tokens"):
        Schedule(
            Pool(mixed.sources, mixed.source, np.where(mixed.source, mixed.tokens, 0).astype(np.int32)),
            mixture(),
            seed=0,
            epoch=0,
        )


def test_what_runs_out_leaves_its_share_in_proportion() -> None:
    """Closed form: of 100, 200 and 1000 at shares of 1/2, 1/4, 1/4 the first is out at 200, the second at 500."""
    flow, end = fluid([(np.inf, np.array([0.5, 0.25, 0.25]))], np.array([100.0, 200.0, 1000.0]), stop=False)
    assert flow.starts[0].tolist() == [0, 200, 500]
    assert flow.rates.T.tolist() == [[0.5, 0.25, 0.25], [0, 0.5, 0.5], [0, 0, 1]]
    assert flow.served.T.tolist() == [[0, 0, 0], [100, 50, 50], [100, 200, 200]]
    assert end == 1300
    assert fluid([(np.inf, np.array([0.5, 0.25, 0.25]))], np.array([100.0, 200.0, 1000.0]), stop=True)[1] == 200


def test_wrong_mixtures_say_what_is_wrong() -> None:
    mixed = pool(0)
    without = Pool(mixed.sources, np.minimum(mixed.source, 2).astype(np.uint16), mixed.tokens)
    with pytest.raises(ValueError, match="no video sample to mix; drop its share or add a source"):
        Schedule(without, mixture(), seed=0, epoch=0)
    with pytest.raises(ValueError, match="no corpus 'stamp'; there are: books, faces"):
        Schedule(mixed, mixture(weights={"stamp": 1.0}), seed=0, epoch=0)
    with pytest.raises(ValueError, match="'stamps' has none and other image corpora have"):
        Schedule(mixed, mixture(weights={"faces": 1.0}), seed=0, epoch=0)
    for changes, said in (
        ({"shares": {"text": 0.9}}, "sum to 1"),
        ({"phases": [{"tokens": 5, "shares": {"text": -1, "image": 2}}]}, "must not be negative"),
        ({"weights": {"faces": 0}}, "must be positive"),
        ({"when_out": "repeat", "max_repeats": 2}, "drop max_repeats"),
    ):
        with pytest.raises(ValueError, match=said):
            mixture(**changes)


def test_a_table_of_repeats(tmp_path: Path) -> None:
    ids = [f"{number:024x}" for number in range(6)]
    often = [2, 0, 3]
    lines = "".join(f'{{"id": "{name}", "repeats": {count}}}\n' for name, count in zip(ids[3:], often, strict=True))
    (tmp_path / "r.jsonl").write_text(lines)
    pq.write_table(pa.table({"id": ids[3:], "repeats": often}), tmp_path / "r.parquet")
    for name in ("r.jsonl", "r.parquet"):
        table = repeats.read(str(tmp_path / name))
        assert repeats.of_samples(table, binary_ids(ids), name).tolist() == [1, 1, 1, 2, 0, 3]
        with pytest.raises(ValueError, match=f"{name}: none of its 3 ids is a sample"):
            repeats.of_samples(table, binary_ids(ids[:3]), name)
    for content, said in (
        ('{"id": "x"}', "not a table of `id` and `repeats`"),
        (f'{{"id": "{ids[0]}", "repeats": 256}}', "whole numbers from 0 to 255"),
        (f'{{"id": "{ids[0]}", "repeats": 1}}\n' * 2, "an id comes twice"),
    ):
        (tmp_path / "wrong.jsonl").write_text(content)
        with pytest.raises(ValueError, match=said):
            repeats.read(str(tmp_path / "wrong.jsonl"))
    with pytest.raises(ValueError, match="no table of repeats there"):
        repeats.read(str(tmp_path / "nowhere.parquet"))
