"""How far people agree, and how right they are where it is known.

Cohen's kappa (Cohen 1960), with linear or quadratic weights (Cohen 1968); Krippendorff's alpha (Krippendorff 2011,
"Computing Krippendorff's Alpha-Reliability"), with any values missing. Intervals of shares are Clopper and Pearson's.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from cot_factory.record import Decision, Task
from cot_factory.review.store import KEEPS

Floats = npt.NDArray[np.float64]
Level = Literal["nominal", "ordinal", "interval"]
Weights = Literal["none", "linear", "quadratic"]


def kappa(one: Sequence[Any], two: Sequence[Any], weights: Weights = "none") -> float:
    """Cohen's kappa of two people over the same items; weights go by the values' order. NaN where both always say one
    and the same thing.
    """
    values = sorted({*one, *two})
    place = {value: number for number, value in enumerate(values)}
    table = np.zeros((len(values), len(values)))
    np.add.at(table, ([place[value] for value in one], [place[value] for value in two]), 1)
    far = np.abs(np.subtract.outer(np.arange(len(values)), np.arange(len(values)))).astype(float)
    cost = {"none": (far > 0).astype(float), "linear": far, "quadratic": far**2}[weights]
    chance = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    expected = float((cost * chance).sum())
    return 1 - float((cost * table).sum()) / expected if expected else float("nan")


def alpha(units: Iterable[Sequence[Any]], level: Level = "nominal") -> float:
    """Krippendorff's alpha. `units`: of each item the values that people gave it, in any order and number; those with
    fewer than two do not count. NaN where all values are one and the same.
    """
    pairable = [list(unit) for unit in units if len(unit) > 1]
    values = sorted({value for unit in pairable for value in unit})
    if len(values) < 2:
        return float("nan")
    place = {value: number for number, value in enumerate(values)}
    together = np.zeros((len(values), len(values)))
    for unit in pairable:
        counts = np.zeros(len(values))
        np.add.at(counts, [place[value] for value in unit], 1)
        together += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    totals = together.sum(axis=1)
    cost = _DISTANCES[level](values, totals)
    observed = float((together * cost).sum())
    expected = float((np.outer(totals, totals) * cost).sum()) / (totals.sum() - 1)
    return 1 - observed / expected if expected else float("nan")


def _nominal(values: Sequence[Any], _totals: Floats) -> Floats:
    return np.asarray(1 - np.eye(len(values)))


def _ordinal(_values: Sequence[Any], totals: Floats) -> Floats:
    """Squared: the values between two of them, with half of each end."""
    middle = np.cumsum(totals) - totals / 2
    return np.asarray(np.subtract.outer(middle, middle) ** 2)


def _interval(values: Sequence[Any], _totals: Floats) -> Floats:
    return np.asarray(np.subtract.outer(np.array(values, float), np.array(values, float)) ** 2)


_DISTANCES: Mapping[Level, Callable[[Sequence[Any], Floats], Floats]] = {
    "nominal": _nominal,
    "ordinal": _ordinal,
    "interval": _interval,
}


def share_interval(hits: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's exact interval of a share (1934)."""
    if of == 0:
        return 0.0, 1.0
    found = stats.binomtest(hits, of).proportion_ci(confidence, method="exact")
    return float(found.low), float(found.high)


def summary(decisions: Iterable[Decision], tasks: Iterable[Task]) -> dict[str, Any]:
    """Agreement on keeping or rejecting over all tasks with two opinions or more (`alpha` with a 95 % interval from a
    bootstrap over tasks, `kappa` of each pair of people), and each person's accuracy on controls.
    """
    told = [one for one in decisions if one.action in KEEPS and not one.adjudicated]
    by_task: dict[str, dict[str, str]] = defaultdict(dict)
    for one in told:
        by_task[one.task][one.annotator] = KEEPS[one.action]
    units = [list(votes.values()) for votes in by_task.values() if len(votes) > 1]
    low, high = _bootstrap(units)
    gold = {task.id: task.gold for task in tasks if task.gold}
    return {
        "decisions": len(told),
        "actions": dict(sorted(Counter(one.action for one in told).items())),
        "overlapping": len(units),
        "same": sum(len(set(unit)) == 1 for unit in units) / len(units) if units else None,
        "alpha": _known(alpha(units)),
        "alpha_interval": [low, high],
        "kappa": [
            {
                "one": one,
                "two": two,
                "tasks": len(pairs),
                "kappa": _known(kappa([a for a, _ in pairs], [b for _, b in pairs])),
            }
            for one, two, pairs in _pairs(by_task)
        ],
        "seconds_a_task": float(np.median([one.seconds for one in told])) if told else None,
        "gold": _gold(told, gold),
    }


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _bootstrap(units: Sequence[Sequence[str]], times: int = 500) -> tuple[float | None, float | None]:
    if len(units) < 2:
        return None, None
    draws = np.random.default_rng(0).integers(len(units), size=(times, len(units)))
    found = [value for draw in draws if not np.isnan(value := alpha([units[place] for place in draw]))]
    if not found:
        return None, None
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def _pairs(by_task: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """For each two people what they said of the tasks that both decided on."""
    met: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for votes in by_task.values():
        for one, two in combinations(sorted(votes), 2):
            met[one, two].append((votes[one], votes[two]))
    return [(one, two, pairs) for (one, two), pairs in sorted(met.items())]


def _gold(told: Sequence[Decision], gold: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each person's accuracy on controls, with its interval."""
    seen: dict[str, list[bool]] = defaultdict(list)
    for one in told:
        if one.task in gold:
            seen[one.annotator].append(KEEPS[one.action] == gold[one.task])
    return [
        {"annotator": who, "seen": len(hits), "right": sum(hits), "interval": share_interval(sum(hits), len(hits))}
        for who, hits in sorted(seen.items())
    ]
