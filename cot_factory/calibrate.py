"""Calibration: what a confidence is worth, fitted on questions whose answers are known, and shown to be so.

Platt's logistic (Platt 1999) over log-confidence, answer log-confidence and agreement; isotonic regression (Zadrozny
and Elkan 2002) over their plain mean. What a report shows is cross-fitted: no question is in the fit that judges it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize

Floats = npt.NDArray[np.float64]
Method = Literal["isotonic", "platt"]
FLOOR = 1e-6
_RIDGE = 1e-2
_DRAWS = 4000


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fit as plain numbers. `platt`: `weights` [4] of the signals and the constant. `isotonic`: probability `heights`
    at `places` of the mean signal, straight lines between them.
    """

    method: Method
    weights: tuple[float, ...] = ()
    places: tuple[float, ...] = ()
    heights: tuple[float, ...] = ()

    def predict(self, signals: Floats) -> Floats:
        """The probability of being right. `signals` [N, 3]: confidence, answer confidence, agreement (`signals_of`)."""
        if self.method == "platt":
            return np.asarray(1 / (1 + np.exp(-_design(signals) @ np.array(self.weights))))
        return np.asarray(np.interp(signals.mean(axis=1), self.places, self.heights))


def signals_of(rows: Sequence[dict[str, Any]]) -> Floats:
    """[N, 3] of chains: confidence, answer confidence, agreement."""
    names = ("confidence", "answer_confidence", "agreement")
    return np.array([[row[name] for name in names] for row in rows], np.float64).reshape(-1, 3)


def fit(signals: Floats, right: npt.NDArray[np.bool_], method: Method) -> Calibration:
    """Fits `right` [N] on `signals` [N, 3]. Raises ValueError where all are right or all wrong: nothing can be told."""
    if not 0 < right.sum() < len(right):
        raise ValueError(f"{int(right.sum())} of {len(right)} chains are right: a calibration needs some of both")
    if method == "platt":
        return Calibration("platt", weights=tuple(_logistic(_design(signals), right).tolist()))
    place, of, each = np.unique(signals.mean(axis=1), return_inverse=True, return_counts=True)
    share = np.bincount(of, weights=right) / each  # chains of one signal have one probability
    found = optimize.isotonic_regression(share, weights=each)
    return Calibration("isotonic", places=tuple(place.tolist()), heights=tuple(found.x.tolist()))


def _design(signals: Floats) -> Floats:
    logs = np.log(np.clip(signals[:, :2], FLOOR, 1))
    return np.column_stack([logs, signals[:, 2], np.ones(len(signals))])


def _logistic(design: Floats, right: npt.NDArray[np.bool_]) -> Floats:
    """Weights of the ridge logistic with Platt's softened targets, which keep a small sample from certainty."""
    num_right, num = int(right.sum()), len(right)
    target = np.where(right, (num_right + 1) / (num_right + 2), 1 / (num - num_right + 2))
    ridge = np.array([_RIDGE] * (design.shape[1] - 1) + [0.0])

    def loss(weights: Floats) -> tuple[float, Floats]:
        score = design @ weights
        value = np.logaddexp(0, score).sum() - target @ score + ridge @ weights**2 / 2
        return float(value), design.T @ (1 / (1 + np.exp(-score)) - target) + ridge * weights

    return np.asarray(optimize.minimize(loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B").x)


def cross_fitted(
    signals: Floats, right: npt.NDArray[np.bool_], groups: Sequence[str], method: Method, folds: int
) -> Floats:
    """[N] probabilities, each from a fit without any chain of the same question; the base rate where there is none."""
    _, group = np.unique(np.array(groups), return_inverse=True)
    fold, out = group % folds, np.full(len(right), right.mean())
    for number in range(folds):
        rest, own = fold != number, fold == number
        if own.any() and 0 < right[rest].sum() < rest.sum():
            out[own] = fit(signals[rest], right[rest], method).predict(signals[own])
    return out


@dataclass(frozen=True, slots=True)
class Reliability:
    """`error`: expected calibration error over bins of equally many chains; `brier`: mean squared error."""

    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    counts: tuple[int, ...]
    error: float
    brier: float


def reliability(probability: Floats, right: npt.NDArray[np.bool_], bins: int = 10) -> Reliability:
    """How often chains of a probability were right, in bins of (nearly) equal size (Nguyen and O'Connor 2015)."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(order))) if len(part)]
    predicted = [float(probability[part].mean()) for part in parts]
    observed = [float(right[part].mean()) for part in parts]
    counts = [len(part) for part in parts]
    gaps = np.abs(np.array(predicted) - np.array(observed))
    brier = float(np.mean((probability - right) ** 2)) if len(order) else 0.0
    error = float(np.average(gaps, weights=counts)) if counts else 0.0
    return Reliability(tuple(predicted), tuple(observed), tuple(counts), error, brier)


@dataclass(frozen=True, slots=True)
class Gain:
    """Accuracy of one path a question chosen in each way, at the same cost, and the paired difference with its 95 %
    interval, from a bootstrap over questions.
    """

    by_confidence: float
    at_random: float
    by_majority: float
    difference: float
    low: float
    high: float
    questions: int


def gain(questions: Sequence[str], probability: Floats, right: npt.NDArray[np.bool_], majority: Floats) -> Gain:
    """What choosing the most probable path of each question gains over a random one. `majority` [N]: agreement."""
    names, group = np.unique(np.array(questions), return_inverse=True)
    rows = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    chosen = np.array([right[row[np.argmax(probability[row])]] for row in rows], np.float64)
    voted = np.array([right[row[np.argmax(majority[row])]] for row in rows], np.float64)
    mean = np.array([right[row].mean() for row in rows])
    draw, paired = np.random.default_rng(0), chosen - mean
    means = [paired[draw.integers(len(names), size=len(names))].mean() for _ in range(_DRAWS)]  # one at a time: memory
    low, high = np.quantile(means, [0.025, 0.975])
    by, at, votes = float(chosen.mean()), float(mean.mean()), float(voted.mean())
    return Gain(by, at, votes, by - at, float(low), float(high), len(names))
