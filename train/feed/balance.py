"""Who does what: work spread over ranks so that none waits long for another. Pure functions over costs, in any unit.

A step takes as long as its slowest rank. What cannot be bettered is the mean over ranks (the ideal) and, where one
piece of work is more than that, that piece: the floor.
"""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

Costs = npt.NDArray[np.float64]
Ranks = npt.NDArray[np.int64]

EXCHANGES = 2_000
CLOSE = 1e-3
"""How near to the ideal or the floor is near enough to stop."""


@dataclass(frozen=True, slots=True)
class Balance:
    """How level a spread is: the largest cost of a rank and the largest single piece, over the mean of ranks."""

    max_over_mean: float
    floor: float

    @property
    def over_best(self) -> float:
        """Over what cannot be bettered: 1 is perfect."""
        return self.max_over_mean / max(self.floor, 1.0)


def assign(costs: Costs, num_ranks: int, *, equal_counts: bool = False) -> Ranks:
    """The rank of each piece of work; with `equal_counts` no rank has more than one piece more than another.

    Longest processing time first (Graham, 1969: within 4/3 of the best), then exchanges between the rank with most and
    another, as long as they lower the larger of the two.
    """
    costs = np.ascontiguousarray(costs, np.float64)
    order = np.argsort(-costs, kind="stable")
    ranks, loads = _longest_first(costs, order, num_ranks, equal_counts)
    _exchange(costs, ranks, loads, equal_counts)
    found: Ranks = ranks
    return found


def balance(costs: Costs, ranks: Ranks, num_ranks: int) -> Balance:
    """How level `ranks` is. Raises ValueError where there is nothing to do."""
    total = float(costs.sum())
    if total <= 0:
        raise ValueError("balance: no piece of work has a cost")
    loads = np.bincount(ranks, costs, num_ranks)
    return Balance(float(loads.max()) * num_ranks / total, float(costs.max()) * num_ranks / total)


@dataclass(frozen=True, slots=True)
class VisionPlan:
    """Which rank encodes each picture, and how many of their visual tokens go from rank to rank [from, to]."""

    ranks: Ranks
    sent: npt.NDArray[np.int64]


def balance_vision(costs: Costs, tokens: npt.NDArray[np.int64], owners: Ranks, num_ranks: int) -> VisionPlan:
    """The vision tower's work on its own over all ranks, whoever trains on the pictures (`owners`).

    The report's layout: the tower is data-parallel over every rank, and features go to where their rows are. Longest
    first, a picture stays with its owner unless that has its part already; then it goes to whoever has least.
    """
    costs = np.ascontiguousarray(costs, np.float64)
    ranks = owners.astype(np.int64)
    order = np.argsort(-costs, kind="stable")
    loads = _relieve(costs, order, ranks, num_ranks)
    _exchange(costs, ranks, loads, False)
    sent = np.zeros((num_ranks, num_ranks), np.int64)
    np.add.at(sent, (ranks, owners), tokens)
    np.fill_diagonal(sent, 0)
    return VisionPlan(ranks, sent)


@numba.njit(cache=True)
def _longest_first(costs, order, num_ranks, equal_counts):  # type: ignore[no-untyped-def]
    ranks, loads = np.empty(len(costs), np.int64), np.zeros(num_ranks)
    counts = np.zeros(num_ranks, np.int64)
    most, fuller = len(costs) // num_ranks, len(costs) % num_ranks
    for item in order:
        chosen = -1
        for rank in range(num_ranks):
            if equal_counts and counts[rank] >= most + (1 if fuller > 0 else 0):
                continue
            if chosen < 0 or loads[rank] < loads[chosen]:
                chosen = rank
        counts[chosen] += 1
        if counts[chosen] > most:
            fuller -= 1
        ranks[item] = chosen
        loads[chosen] += costs[item]
    return ranks, loads


@numba.njit(cache=True)
def _relieve(costs, order, ranks, num_ranks):  # type: ignore[no-untyped-def]
    """Longest first: each piece stays where it is, unless that rank has its part; returns the loads."""
    part = max(costs.sum() / num_ranks, costs.max() if len(costs) else 0.0)
    loads = np.zeros(num_ranks)
    for item in order:
        if loads[ranks[item]] + costs[item] > part:
            ranks[item] = np.argmin(loads)
        loads[ranks[item]] += costs[item]
    return loads


@numba.njit(cache=True)
def _exchange(costs, ranks, loads, equal_counts):  # type: ignore[no-untyped-def]
    """Exchanges, and where counts may differ moves, each between the rank with most and the one that it helps most."""
    best = max(costs.sum() / len(loads), costs.max() if len(costs) else 0.0)
    for _ in range(EXCHANGES):
        top = int(np.argmax(loads))
        if loads[top] <= best * (1 + CLOSE):
            return
        lowest, give, take, to = loads[top] * (1 - 1e-12), -1, -1, -1
        for place in np.argsort(loads, kind="mergesort"):
            rank = int(place)
            if rank != top and loads[rank] < lowest and lowest > best * (1 + CLOSE):
                larger, first, second = _between(costs, ranks, loads, top, rank, equal_counts)
                if larger < lowest:
                    lowest, give, take, to = larger, first, second, rank
        if give < 0:
            return
        step = costs[give]
        ranks[give] = to
        if take >= 0:
            ranks[take] = top
            step -= costs[take]
        loads[top] -= step
        loads[to] += step


@numba.njit(cache=True)
def _between(costs, ranks, loads, top, rank, equal_counts):  # type: ignore[no-untyped-def]
    """What to give to `rank`, and take for it (-1: nothing), so that the larger of the two loads is least."""
    mine, others = np.flatnonzero(ranks == top), np.flatnonzero(ranks == rank)
    lowest, give, take = np.inf, mine[0], np.int64(-1)
    for first in mine:
        if not equal_counts:
            larger = max(loads[top] - costs[first], loads[rank] + costs[first])
            if larger < lowest:
                lowest, give, take = larger, first, np.int64(-1)
        for second in others:
            step = costs[first] - costs[second]
            larger = max(loads[top] - step, loads[rank] + step)
            if larger < lowest:
                lowest, give, take = larger, first, second
    return lowest, give, take
