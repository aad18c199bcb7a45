import math

import numpy as np
import pytest

from eval.extract import closed_answer
from eval.stats import clustered_standard_error, mean

ANSWERS = ["circle", "red", "yes", "no"]


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("red", "red"),
        (" Red.\n", "red"),
        ("YES", "yes"),
        ("", None),
        ("redd", None),
        ("red circle", None),
        ("the answer is red", None),
        ("no, yes", None),
        ("purple", None),
    ],
)
def test_an_answer_is_one_of_the_allowed_or_nothing(said: str, answer: str | None) -> None:
    assert closed_answer(said, ANSWERS) == answer


def test_with_one_value_a_cluster_it_is_the_usual_standard_error() -> None:
    values = np.random.default_rng(0).random(200).tolist()
    expected = np.std(values) / math.sqrt(len(values))
    assert clustered_standard_error(values, range(len(values))) == pytest.approx(expected)


def test_copies_of_a_value_in_one_cluster_add_no_certainty() -> None:
    values = np.random.default_rng(1).random(50).tolist()
    alone = clustered_standard_error(values, range(50))
    copied = clustered_standard_error(values * 7, list(range(50)) * 7)
    assert copied == pytest.approx(alone)
    assert clustered_standard_error(values * 7, range(350)) < 0.4 * alone


def test_it_agrees_with_resampling_whole_clusters() -> None:
    """The spread of the mean over bootstrap samples of clusters: 40 clusters of 10 that share a level."""
    random = np.random.default_rng(2)
    levels = random.random(40)
    values = (random.random((40, 10)) < levels[:, None]).astype(float)
    resampled = [values[random.integers(0, 40, 40)].mean() for _ in range(4000)]
    clusters = np.repeat(np.arange(40), 10).tolist()
    assert clustered_standard_error(values.ravel().tolist(), clusters) == pytest.approx(np.std(resampled), rel=0.05)


def test_the_mean_of_nothing_is_not_a_number() -> None:
    assert math.isnan(mean([]))
    assert mean([1.0, 0.0]) == 0.5
