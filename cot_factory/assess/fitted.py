"""Two small models that people can read: is a process flawed, and which of its steps is the first wrong one.

The first is a logistic regression over features of a chain. The second is a conditional logit (McFadden 1974): of the
steps of one flawed chain, step k is the first wrong one with probability softmax(w . x)_k. Both take standardised
features and are fitted with an L2 penalty on the weights alone, by L-BFGS.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

from strict_yaml import Strict

Array = NDArray[np.float64]


class Fitted(Strict):
    """A linear score over named features, each less its `mean` and over its `scale`."""

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float = 0.0

    def score(self, rows: Array) -> Array:
        """(n, features) -> (n,)."""
        z = (rows - np.array(self.mean)) / np.array(self.scale)
        return np.asarray(z @ np.array(self.weights) + self.intercept)

    def probability(self, rows: Array) -> Array:
        """Of each row, that its label is 1: for `fit_logistic`."""
        return np.asarray(expit(self.score(rows)))

    def among(self, steps: Array) -> Array:
        """Of each row, that it is the chosen one of all rows: for `fit_choice`."""
        return np.asarray(softmax(self.score(steps)))


def fit_logistic(names: Sequence[str], rows: Array, labels: Array, penalty: float) -> Fitted:
    """Least mean log-loss + penalty / 2 * |weights|^2. `labels`: 0 or 1. Raises ValueError where all are the same."""
    if len(set(labels.tolist())) < 2:
        raise ValueError("fit_logistic: labels are all the same; give some of either kind")
    mean, scale = _standard(rows)
    z = (rows - mean) / scale

    def loss(w: Array) -> tuple[float, Array]:
        score = z @ w[:-1] + w[-1]
        error = (expit(score) - labels) / len(labels)
        value = np.mean(np.logaddexp(0, score) - labels * score) + penalty / 2 * w[:-1] @ w[:-1]
        return float(value), np.append(z.T @ error + penalty * w[:-1], error.sum())

    found = minimize(loss, np.zeros(z.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return _fitted(names, mean, scale, found[:-1], float(found[-1]))


def fit_choice(names: Sequence[str], groups: Sequence[Array], chosen: Sequence[int], penalty: float) -> Fitted:
    """Least mean negative log-probability of the chosen row of each group + penalty / 2 * |weights|^2."""
    mean, scale = _standard(np.concatenate(groups))
    z = [(group - mean) / scale for group in groups]

    def loss(w: Array) -> tuple[float, Array]:
        value, slope = penalty / 2 * w @ w, penalty * w
        for rows, k in zip(z, chosen, strict=True):
            told = log_softmax(rows @ w)
            value -= told[k] / len(z)
            slope = slope + (np.exp(told) @ rows - rows[k]) / len(z)
        return float(value), slope

    return _fitted(names, mean, scale, minimize(loss, np.zeros(len(mean)), jac=True, method="L-BFGS-B").x, 0.0)


def _standard(rows: Array) -> tuple[Array, Array]:
    scale = rows.std(axis=0)
    return rows.mean(axis=0), np.where(scale > 0, scale, 1.0)


def _fitted(names: Sequence[str], mean: Array, scale: Array, weights: Array, intercept: float) -> Fitted:
    listed = [tuple(float(one) for one in values) for values in (mean, scale, weights)]
    return Fitted(names=tuple(names), mean=listed[0], scale=listed[1], weights=listed[2], intercept=intercept)
