"""Means that know how sure they are."""

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def clustered_standard_error(values: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """Standard error of the mean when values of one cluster (questions on one image) are not independent.

    The sandwich estimate sqrt(sum over clusters of (sum of residuals)^2) / n, after Liang and Zeger (1986),
    as Miller recommends for evaluations (arXiv 2411.00640). With one value a cluster it is the usual one.
    """
    residuals: dict[Hashable, float] = defaultdict(float)
    centre = mean(values)
    for value, cluster in zip(values, clusters, strict=True):
        residuals[cluster] += value - centre
    return float(np.sqrt(sum(r * r for r in residuals.values())) / max(len(values), 1))
