"""Agreement against the krippendorff package and by hand; audits against the enumeration of every set."""

import math
import random
from dataclasses import replace
from itertools import product

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cot_factory.record import Decision
from cot_factory.review import agreement, audit
from tests.cot_factory.review.annotators import some_tasks


def test_kappa_of_cohens_kind_by_hand() -> None:
    one = ["yes"] * 25 + ["no"] * 25
    two = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert agreement.kappa(one, two) == pytest.approx(0.4)  # observed 0.7, by chance 0.5
    assert agreement.kappa(one, one) == 1
    assert math.isnan(agreement.kappa(["a"], ["a"]))


def test_weighted_kappa_counts_how_far_apart() -> None:
    one, near, far = [1, 2, 3, 4, 5] * 4, [2, 3, 4, 5, 5] * 4, [5, 1, 1, 1, 1] * 4
    for weights in ("linear", "quadratic"):
        assert agreement.kappa(one, near, weights) > agreement.kappa(one, near)  # type: ignore[arg-type]
        assert agreement.kappa(one, far, weights) < agreement.kappa(one, near, weights)  # type: ignore[arg-type]
    # by hand: disagreements are 1 apart in 16 of 20, so 16 / 20 observed against the mean product distance
    expected = np.mean([abs(a - b) for a, b in product(one, near)])
    assert agreement.kappa(one, near, "linear") == pytest.approx(1 - 0.8 / expected)


@given(
    st.lists(st.lists(st.one_of(st.none(), st.integers(1, 5)), min_size=3, max_size=3), min_size=2, max_size=30),
    st.sampled_from(["nominal", "ordinal", "interval"]),
)
def test_alpha_is_that_of_the_krippendorff_package(rows: list[list[int | None]], level: agreement.Level) -> None:
    units = [[value for value in row if value is not None] for row in rows]
    values = {value for unit in units if len(unit) > 1 for value in unit}
    found = agreement.alpha(units, level)
    if len(values) < 2:
        assert math.isnan(found)
        return
    data = np.array([[math.nan if value is None else value for value in row] for row in rows]).T
    data[:, [len(unit) < 2 for unit in units]] = math.nan
    assert found == pytest.approx(krippendorff.alpha(reliability_data=data, level_of_measurement=level), abs=1e-9)


def test_an_interval_of_a_share_is_exact() -> None:
    low, high = agreement.share_interval(8, 10)
    assert stats.binom.sf(7, 10, low) == pytest.approx(0.025)
    assert stats.binom.cdf(8, 10, high) == pytest.approx(0.025)
    assert agreement.share_interval(0, 0) == (0.0, 1.0)


def test_what_people_said_is_summed_up() -> None:
    tasks = [replace(task, gold="reject" if place < 5 else None) for place, task in enumerate(some_tasks(40))]
    draw, decisions = random.Random(3), []
    for task in tasks:
        truth = "reject" if task.gold or draw.random() < 0.4 else "accept"
        for who, error in (("ann", 0.0), ("bob", 0.2), ("eve", 1.0)):
            wrong = draw.random() < error
            action = ("accept" if truth == "reject" else "reject") if wrong else truth
            decisions.append(Decision(task.id, who, action, seconds=20.0))  # type: ignore[arg-type]
    decisions.append(Decision(tasks[0].id, "ann", "skip"))
    found = agreement.summary(decisions, tasks)
    assert found["decisions"] == 120
    assert found["overlapping"] == 40
    assert found["seconds_a_task"] == 20.0
    kappas = {(pair["one"], pair["two"]): pair["kappa"] for pair in found["kappa"]}
    assert kappas["ann", "eve"] < -0.8 < 0.3 < kappas["ann", "bob"]
    low, high = found["alpha_interval"]
    assert low < found["alpha"] < high
    gold = {one["annotator"]: one for one in found["gold"]}
    assert (gold["ann"]["right"], gold["eve"]["right"], gold["ann"]["seen"]) == (5, 0, 5)


def test_the_bound_of_an_audit_holds_for_every_set() -> None:
    """All sets of up to 12, all samples by their probability: the truth is under the bound as often as promised."""
    for population, drawn in product(range(1, 13), range(1, 13)):
        if drawn > population:
            continue
        for wrong in range(population + 1):
            chances = stats.hypergeom.pmf(np.arange(drawn + 1), population, wrong, drawn)
            held = sum(
                chance
                for errors, chance in enumerate(chances)
                if chance > 0 and audit.bound(population, drawn, errors, 0.9) >= wrong
            )
            assert held >= 0.9 - 1e-9, (population, drawn, wrong)


@pytest.mark.parametrize(("population", "share", "allowed"), [(50, 0.1, 0), (300, 0.05, 1), (2000, 0.02, 3)])
def test_a_plan_is_the_smallest_sample_that_proves_it(population: int, share: float, allowed: int) -> None:
    number = audit.plan(population, share, 0.95, allowed)
    most = int(share * population)
    assert audit.bound(population, number, allowed, 0.95) <= most
    assert audit.bound(population, number - 1, min(allowed, number - 1), 0.95) > most


def test_a_drawn_sample_depends_on_the_set_and_the_seed_alone() -> None:
    ids = [f"s{place}" for place in range(500)]
    found = audit.draw(ids, 40, 1)
    assert found == audit.draw(reversed(ids), 40, 1)
    assert len(set(found)) == 40
    assert set(found) != set(audit.draw(ids, 40, 2))
    assert audit.draw(ids, 60, 1)[:40] == found  # a larger audit goes on from a smaller one
    with pytest.raises(ValueError, match="audit all of it"):
        audit.draw(ids, 501, 1)


@pytest.mark.parametrize("numbers", [(10, 11, 0, 0.9), (10, 5, 6, 0.9), (10, 5, 1, 1.0)])
def test_numbers_that_cannot_be_are_refused(numbers: tuple[int, int, int, float]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        audit.bound(*numbers)
