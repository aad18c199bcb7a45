"""Confidence of spans, calibration, what it gains, selection, repeats, and scores."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cot_factory import calibrate, confidence, schedule
from cot_factory.question import Question
from cot_factory.record import Shown
from cot_factory.score import bounds
from cot_factory.select import select, similarity, word_pairs
from data_engine.teachers.request import Token
from strict_yaml import RecipeError


def test_the_confidence_of_a_span_is_the_geometric_mean_of_its_tokens() -> None:
    text = "1. Two.\n2. Three."
    tokens = [
        Token(word, math.log(p))
        for word, p in (("1.", 0.5), (" Two", 0.8), (".\n", 0.9), ("2.", 0.4), (" Three.", 0.1))
    ]
    first, second = confidence.of_spans(text, tokens, [(0, 7), (8, 17)])
    assert first == pytest.approx((0.5 * 0.8 * 0.9) ** (1 / 3))
    assert second == pytest.approx((0.4 * 0.1) ** 0.5)
    assert confidence.confidence(tokens) == pytest.approx((0.5 * 0.8 * 0.9 * 0.4 * 0.1) ** 0.2)


def test_tokens_that_are_parts_of_characters_and_marks_do_not_shift_the_rest() -> None:
    text = "圆是蓝。 Yes."
    pieces = ["圆", "\N{REPLACEMENT CHARACTER}", "\N{REPLACEMENT CHARACTER}", "蓝", "。", " Yes", ".", "<|im_end|>"]
    tokens = [Token(piece, -float(place)) for place, piece in enumerate(pieces)]
    (yes,) = confidence.of_spans(text, tokens, [(5, 8)])
    assert yes == pytest.approx(math.exp(-5))


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8))
def test_agreement_is_the_share_of_the_others(answers: list[str]) -> None:
    for place, share in enumerate(confidence.agreement(answers)):
        others = answers[:place] + answers[place + 1 :]
        assert share == pytest.approx(others.count(answers[place]) / len(others) if others else 0)


def told(num: int, seed: int = 0) -> tuple[calibrate.Floats, Any, list[str]]:
    """Signals, and answers that are right as often as a known function of them says; eight to a question."""
    draw = np.random.default_rng(seed)
    signals = draw.uniform(0.05, 0.99, (num, 3))
    score = 3 * np.log(signals[:, 0]) + np.log(signals[:, 1]) + 2 * signals[:, 2] + 1
    right = draw.uniform(size=num) < 1 / (1 + np.exp(-score))
    return signals, right, [f"q{place // 8}" for place in range(num)]


def test_platt_finds_the_weights_that_made_the_answers() -> None:
    signals, right, _ = told(40_000)
    assert calibrate.fit(signals, right, "platt").weights == pytest.approx((3, 1, 2, 1), abs=0.15)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_cross_fitted_calibration_is_close_to_what_comes_true(method: calibrate.Method) -> None:
    signals, right, questions = told(8000)
    held = calibrate.cross_fitted(signals, right, questions, method, 5)
    raw = calibrate.reliability(signals[:, 0], right)
    found = calibrate.reliability(held, right)
    assert found.error < 0.03 < raw.error
    assert sum(found.counts) == 8000
    assert all(one <= two for one, two in pairwise(found.predicted))


def test_isotonic_never_falls_and_a_fit_needs_right_and_wrong() -> None:
    signals, right, _ = told(300)
    places = np.sort(signals.mean(axis=1))
    heights = calibrate.fit(signals, right, "isotonic").predict(np.column_stack([places] * 3))
    assert (np.diff(heights) >= -1e-12).all()
    with pytest.raises(ValueError, match="300 of 300 chains are right"):
        calibrate.fit(signals, np.ones(300, bool), "platt")


def test_no_question_is_in_the_fit_that_judges_it() -> None:
    """Answers that only their question tells: with leakage the calibration would seem perfect."""
    draw = np.random.default_rng(1)
    of_question = draw.uniform(size=100) < 0.5
    right = np.repeat(of_question, 8)
    signals = np.repeat(draw.uniform(0.1, 0.9, (100, 3)), 8, axis=0)
    held = calibrate.cross_fitted(signals, right, [f"q{place // 8}" for place in range(800)], "isotonic", 5)
    assert calibrate.reliability(held, right).brier > 0.22  # a coin's is 0.25


def test_the_error_of_a_calibration_by_hand() -> None:
    found = calibrate.reliability(np.array([0.1, 0.3, 0.8, 0.6]), np.array([False, True, True, True]), bins=2)
    assert found.predicted == pytest.approx((0.2, 0.7))
    assert found.observed == pytest.approx((0.5, 1.0))
    assert found.error == pytest.approx(0.3)
    assert found.brier == pytest.approx((0.01 + 0.49 + 0.04 + 0.16) / 4)


def test_the_gain_by_confidence_is_there_where_it_is_and_not_where_it_is_not() -> None:
    signals, right, questions = told(1600)
    held = calibrate.cross_fitted(signals, right, questions, "platt", 5)
    real = calibrate.gain(questions, held, right, signals[:, 2])
    assert real.low > 0
    assert real.at_random == pytest.approx(right.mean())
    none = calibrate.gain(questions, np.random.default_rng(2).uniform(size=1600), right, signals[:, 2])
    assert none.low < 0 < none.high


def chain(path: int, text: str, tier: str = "A", probability: float = 0.5) -> dict[str, Any]:
    return {"path": path, "text": text, "tier": tier, "probability": probability}


def test_the_surest_chains_of_different_thoughts_are_kept() -> None:
    rows = [
        chain(0, "we add the two numbers", probability=0.9),
        chain(1, "we add the two numbers", probability=0.95),
        chain(2, "counting on from the larger gives it", probability=0.7),
        chain(3, "a wrong way", tier="C", probability=0.99),
        chain(4, "a flawed way that is right", tier="B", probability=0.97),
        chain(5, "taking ten and three more", probability=0.6),
    ]
    assert [row["path"] for row in select(rows, 2, 0.8)] == [1, 2]
    assert [row["path"] for row in select(rows, 9, 0.8)] == [1, 2, 5, 4]
    assert [row["path"] for row in select(rows, 9, 1.01)] == [1, 0, 2, 5, 4]
    assert similarity(word_pairs("a b"), word_pairs("A, b!")) == 1


BASE = {1: 0, 2: 1, 3: 1, 4: 2, 5: 3}


def repeats(ids: list[str], scores: list[int], rounds: Any = (), **more: Any) -> list[int]:
    settings = {"decay": 1.0, "cap": 8, "seed": 0, **more}
    return schedule.repeats(ids, np.array(scores), BASE, rounds, **settings).tolist()


def test_repeats_without_feedback_are_those_of_the_score() -> None:
    assert repeats(["a", "b", "c", "d", "e"], [1, 2, 3, 4, 5]) == [0, 1, 1, 2, 3]


def test_what_is_learnt_comes_seldom_and_what_is_hard_often() -> None:
    ids = [f"s{place}" for place in range(4000)]
    learnt = dict.fromkeys(ids, (None, 1.0))
    hard = dict.fromkeys(ids, (None, 0.0))
    half = dict.fromkeys(ids, (None, 0.5))
    assert set(repeats(ids, [5] * 4000, [learnt])) == {0}
    assert set(repeats(ids, [5] * 4000, [hard])) == {6}
    assert set(repeats(ids, [5] * 4000, [learnt, half])) == {3}  # the last round counts
    assert np.mean(repeats(ids, [5] * 4000, [half], decay=0.75)) == pytest.approx(2.25, abs=0.03)
    assert set(repeats(ids, [5] * 4000, [hard], cap=4)) == {4}


def test_repeats_are_the_same_wherever_and_in_whatever_order_they_are_made() -> None:
    ids = [f"s{place}" for place in range(500)]
    rounds = [{name: (None, (place % 10) / 10) for place, name in enumerate(ids)}]
    found = dict(zip(ids, repeats(ids, [5] * 500, rounds, decay=0.7), strict=True))
    back = dict(zip(ids[::-1], repeats(ids[::-1], [5] * 500, rounds, decay=0.7), strict=True))
    assert found == back
    assert repeats(ids, [5] * 500, rounds, decay=0.7, seed=1) != list(found.values())


def test_a_loss_counts_by_its_rank() -> None:
    told = {"a": (0.1, None), "b": (9.0, None), "c": (0.5, None), "d": (0.5, None)}
    assert schedule.gain(["a", "b", "c", "d", "e"], [told]).tolist() == [0, 1, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"name": ["a"]}, "it needs `id`"),
        ({"id": ["a"], "pass_rate": [1.5]}, "pass_rate of a is not between 0 and 1"),
    ],
)
def test_feedback_that_is_none_is_refused(columns: dict[str, list[Any]], said: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "round.parquet")
    with pytest.raises(RecipeError, match=said):
        schedule.read_feedback(tmp_path / "round.parquet")


@pytest.mark.parametrize(
    ("steps", "passed", "blind", "low", "high"),
    [
        (2, 1.0, None, 2, 3),
        (5, 1.0, None, 3, 5),
        (2, 0.25, None, 3, 5),
        (3, 0.75, None, 2, 4),
        (5, 0.25, 0.5, 1, 1),  # whoever sees nothing answers it
        (5, 0.25, 0.25, 3, 5),
    ],
)
def test_the_rules_bound_the_score(steps: int, passed: float, blind: float | None, low: int, high: int) -> None:
    seen = Question("counting", "How many?", "3", ({"kind": "count", "value": 3},), shown=(Shown("image", "k.png"),))
    assert bounds(seen, steps, passed, blind)[:2] == (low, high)
    assert bounds(replace(seen, shown=()), steps, passed, blind)[1] == min(high, 4)
