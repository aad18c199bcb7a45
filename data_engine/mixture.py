"""Token-exact mixing: which sample comes at which place of an epoch.

The order is a pure function of (token counts, mixture, seed, epoch). Shares are of tokens: those of modalities, and
within a modality those of its sources. They hold all along the epoch, not only on average (random draws by weight miss
by whole points, as samples differ in length): at every place each modality has had its share of the tokens so far to
within one sample.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from data_engine.mixture_kernels import (
    AHEAD,
    GROUP,
    SOURCE,
    Floats,
    Fluid,
    Ints,
    advance,
    begin,
    group_members,
    sums,
    when,
)
from data_engine.recipe import Mixture
from data_engine.sample import Modality
from data_engine.shard_index import Source

EVERY = 65_536
"""Places between two that are remembered: to begin anywhere costs at most so many steps."""
TAIL = 32
UNLIMITED = 2**62


@dataclass(frozen=True, slots=True)
class Pool:
    """The samples to mix, by number. `source`: each one's number in `sources`; `repeats`: how often a pass over its
    source has it (0 to 255; None: once).
    """

    sources: Sequence[Source]
    source: npt.NDArray[np.uint16]
    tokens: npt.NDArray[np.int32]
    repeats: npt.NDArray[np.uint8] | None = None


class Schedule:
    """One epoch. Raises ValueError where the mixture names what the pool does not have."""

    def __init__(self, pool: Pool, mixture: Mixture, *, seed: int, epoch: int) -> None:
        self.pool, self.mixture = pool, mixture
        self.names = mixture.modalities
        self._plan = _plan(pool, mixture, self.names, seed, epoch)
        begin(*self._plan[:-1])
        self._places = [_copy(self._plan)]
        self._length = self._run()

    def __len__(self) -> int:
        """Places of the epoch."""
        return self._length

    def _run(self) -> int:
        """Goes through the epoch once, remembers places on the way, and returns how many there are."""
        place, out, length = _copy(self._plan), np.empty(EVERY, np.int32), 0
        while (count := advance(*place, out)) == EVERY:
            length += int(count)
            self._places.append(_copy(place))
        length += int(count)
        if self.mixture.when_out != "stop" and int(place.groups["cum"].sum()) < (
            self.mixture.epoch_tokens or UNLIMITED
        ):
            return length
        return self._best_end(length)

    def _best_end(self, length: int) -> int:
        """The last of those places, among the last few, where the worst error of a share is smallest."""
        first = max(0, length - TAIL)
        served = self.served(np.arange(first, length) + 1, length)
        total = served.sum(axis=1)
        errors = np.abs(served - self.targets(total)).max(axis=1) / np.maximum(total, 1)
        return int(length - errors[::-1].argmin()) if length else 0

    def chunks(self, start: int, size: int) -> Iterator[npt.NDArray[np.int32]]:
        """Samples' numbers from place `start` to the end of the epoch, at most `size` at once."""
        return self._chunks(start, size, len(self))

    def _chunks(self, start: int, size: int, stop: int) -> Iterator[npt.NDArray[np.int32]]:
        if start >= stop:
            return
        place = _copy(self._places[start // EVERY])
        advance(*place, np.empty(start % EVERY, np.int32))
        for first in range(start, stop, size):
            out = np.empty(min(size, stop - first), np.int32)
            advance(*place, out)
            yield out

    def order(self) -> npt.NDArray[np.int32]:
        """All of the epoch."""
        return next(self.chunks(0, len(self)), np.empty(0, np.int32))

    def served(self, places: Ints, stop: int | None = None) -> Ints:
        """Tokens of each modality before each of some places, in ascending order: [places, modalities]."""
        first = int(places[0]) // EVERY * EVERY if len(places) else 0
        start = self._places[first // EVERY].groups["cum"]
        numbers = next(self._chunks(first, int(places[-1]) - first or 1, stop or len(self)), np.empty(0, np.int32))
        tokens = self.pool.tokens[numbers].astype(np.int64)
        group = _groups(self.pool.sources, self.names)[self.pool.source[numbers]]
        columns = [np.concatenate([[0], np.cumsum(tokens * (group == number))]) for number in range(len(self.names))]
        served: Ints = np.stack(columns, axis=1)[places - first] + start
        return served

    def targets(self, total: npt.ArrayLike) -> Floats:
        """Tokens that each modality should have had when all have had `total`: [..., modalities]."""
        outer, time = self._plan.outer, np.asarray(total, np.float64)
        corner = np.maximum(np.searchsorted(outer.starts[0], time, side="right") - 1, 0)
        passed = time - outer.starts[0, corner]
        return np.moveaxis(outer.served[:, corner] + passed * outer.rates[:, corner], 0, -1)

    def pieces(self) -> list[dict[str, Any]]:
        """From which token on which shares hold: phases, and what changed as something ran out."""
        outer = self._plan.outer
        return [
            {"from": round(float(start)), "shares": dict(zip(self.names, rates.tolist(), strict=True))}
            for start, rates in zip(outer.starts[0], outer.rates.T, strict=True)
        ]


class _Plan(NamedTuple):
    """What the kernels take; `sources` and `groups` change as a schedule advances."""

    sources: npt.NDArray[np.void]
    groups: npt.NDArray[np.void]
    members: npt.NDArray[np.int32]
    outer: Fluid
    inner: Fluid
    ahead: npt.NDArray[np.int32]
    limit: int


def _copy(plan: _Plan) -> _Plan:
    return plan._replace(sources=plan.sources.copy(), groups=plan.groups.copy())


def achieved(pool: Pool, order: npt.NDArray[np.integer[Any]]) -> dict[str, float]:
    """The share of tokens each modality has in an order."""
    tokens = np.bincount(pool.source[order], pool.tokens[order], len(pool.sources))
    shares: dict[str, float] = {source.modality: 0.0 for source in pool.sources}
    for source, count in zip(pool.sources, tokens, strict=True):
        shares[source.modality] += float(count) / max(float(tokens.sum()), 1)
    return shares


def _groups(sources: Sequence[Source], names: Sequence[Modality]) -> Ints:
    """Each source's modality as a number into `names`; -1 for one that takes no part."""
    return np.array([names.index(s.modality) if s.modality in names else -1 for s in sources], np.int64)


def _plan(pool: Pool, mixture: Mixture, names: Sequence[Modality], seed: int, epoch: int) -> _Plan:
    group = _groups(pool.sources, names)
    repeats = np.ones(len(pool.tokens), np.uint8) if pool.repeats is None else pool.repeats
    slots, tokens = sums(pool.source, pool.tokens, repeats, len(pool.sources))
    used = np.array(
        [source for source in np.argsort(group, kind="stable") if group[source] >= 0 and slots[source]], int
    )
    chosen = [pool.sources[source] for source in used]
    _require(mixture, names, chosen, pool.sources)
    if len(empty := used[tokens[used] == 0]):
        raise ValueError(f"mixture: the samples of {pool.sources[empty[0]].corpus!r} have no tokens; count them first")
    sources, groups = np.zeros(len(used), SOURCE), np.zeros(len(names), GROUP)
    sources["slots"] = slots[used]
    sources["first"] = np.cumsum(slots[used]) - slots[used]
    sources["passes"] = UNLIMITED if mixture.when_out == "repeat" else mixture.max_repeats
    sources["key"] = [_key(seed, epoch, source) for source in chosen]
    spans = np.searchsorted(group[used], np.arange(len(names) + 1))
    groups["first"], groups["last"] = spans[:-1], spans[1:]
    places = np.full(len(pool.sources), -1, np.int64)
    places[used] = sources["first"]
    members = np.empty((int(slots[used].sum()), 2), np.int32)  # by numpy: in huge pages, where the system has them
    group_members(pool.source, pool.tokens, repeats, places, members)
    outer, inner, end = _fluids(
        mixture, names, chosen, tokens[used].astype(np.float64), spans, int(pool.tokens.max(initial=0))
    )
    ahead = np.zeros((len(used), AHEAD, 2), np.int32)
    return _Plan(sources, groups, members, outer, inner, ahead, min(end, mixture.epoch_tokens or UNLIMITED))


def _fluids(
    mixture: Mixture, names: Sequence[Modality], sources: Sequence[Source], tokens: Floats, spans: Ints, largest: int
) -> tuple[Fluid, Fluid, int]:
    """The shares of modalities, those of sources within them, and the tokens at which the epoch ends.

    `tokens`: of each source, once; `largest`: of a sample, by which a source may lag behind its fluid.
    """
    stop, endless = mixture.when_out == "stop", mixture.when_out == "repeat"
    supply = np.full(len(tokens), np.inf) if endless else tokens * mixture.max_repeats
    weights = np.array([mixture.weights.get(source.corpus, 0.0) for source in sources])
    inner, ends = _inner(tokens, weights, supply, spans, stop=stop)
    phases = [(float(phase.tokens), phase.shares) for phase in mixture.phases]
    every = [*phases, (np.inf, mixture.shares)]
    vectors = [(long, np.array([shares.get(name, 0.0) for name in names])) for long, shares in every]
    outer, end = fluid(vectors, ends, stop=stop)
    if endless:
        end = UNLIMITED if mixture.epoch_tokens else _when_all_came(outer, inner, tokens, spans) + largest
    return outer, inner, UNLIMITED if mixture.when_out == "renormalise" else int(np.ceil(end))


def _key(seed: int, epoch: int, source: Source) -> int:
    """Of the permutation of a source: it depends on no other source."""
    return xxhash.xxh3_64_intdigest(f"{seed}/{epoch}/{source.modality}/{source.corpus}".encode())


def _require(mixture: Mixture, names: Sequence[Modality], used: Sequence[Source], sources: Sequence[Source]) -> None:
    """Raises ValueError for a modality without samples, and for weights that the sources do not bear out."""
    for name in names:
        if not any(source.modality == name for source in used):
            raise ValueError(f"mixture: no {name} sample to mix; drop its share or add a source")
    known = {source.corpus for source in sources}
    if unknown := sorted(set(mixture.weights) - known):
        raise ValueError(f"mixture.weights: no corpus {unknown[0]!r}; there are: {', '.join(sorted(known))}")
    for name in names:
        mine = [source.corpus for source in used if source.modality == name]
        without = [corpus for corpus in mine if corpus not in mixture.weights]
        if without and len(without) < len(mine):
            raise ValueError(
                f"mixture.weights: {without[0]!r} has none and other {name} corpora have; weigh all or none"
            )


def _inner(tokens: Floats, weights: Floats, supply: Floats, spans: Ints, *, stop: bool) -> tuple[Fluid, Floats]:
    """The shares of sources within their modalities, and what each modality has to give."""
    parts, ends = [], []
    for first, last in pairwise(spans.tolist()):
        mine = slice(first, last)
        shares = weights[mine] if weights[mine].any() else tokens[mine]
        part, end = fluid([(np.inf, shares)], supply[mine], stop=stop)
        parts.append(part)
        ends.append(end if stop else supply[mine].sum())  # exact: a modality is out with its last sample
    corners = np.array([part.starts.shape[1] for part in parts], np.int64)
    starts = np.zeros((len(parts), corners.max()))
    served, rates = np.zeros((len(tokens), corners.max())), np.zeros((len(tokens), corners.max()))
    for number, part in enumerate(parts):
        mine, many = slice(spans[number], spans[number + 1]), corners[number]
        starts[number, :many], served[mine, :many], rates[mine, :many] = part.starts[0], part.served, part.rates
    return Fluid(starts, served, rates, corners), np.array(ends)


def fluid(phases: Sequence[tuple[float, Floats]], supply: Floats, *, stop: bool) -> tuple[Fluid, float]:
    """Shares over time from (duration, shares) of each phase and what each class has; and when they end.

    A class that runs out leaves its share to the others, in proportion; with `stop` the first that does ends it all.
    """
    starts, all_served, all_rates = list[float](), list[Floats](), list[Floats]()
    time, served = 0.0, np.zeros(len(supply))
    for duration, shares in phases:
        left = duration
        while left > 0 and (rates := np.where(served < supply, shares, 0.0)).any():
            rates = rates / rates.sum()
            starts.append(time)
            all_served.append(served)
            all_rates.append(rates)
            with np.errstate(divide="ignore", invalid="ignore"):
                until = np.where(rates > 0, (supply - served) / rates, np.inf)
            step = min(left, float(until.min()))
            if step == np.inf:
                return _fluid(starts, all_served, all_rates), np.inf
            time, left = time + step, left - step
            served = np.where(until <= step * (1 + 1e-9), supply, served + step * rates)
            if stop and (until <= step * (1 + 1e-9)).any():
                return _fluid(starts, all_served, all_rates), time
    return _fluid(starts, all_served, all_rates), time


def _fluid(starts: list[float], served: list[Floats], rates: list[Floats]) -> Fluid:
    columns = [np.ascontiguousarray(np.array(rows).T) for rows in (served, rates)]
    return Fluid(np.array([starts]), columns[0], columns[1], np.array([len(starts)], np.int64))


def _when_all_came(outer: Fluid, inner: Fluid, tokens: Floats, spans: Ints) -> float:
    """When the fluid has passed once over every source that it passes over at all; none runs out."""
    needed = [float((tokens[a:b] / inner.rates[a:b, 0]).max()) for a, b in pairwise(spans.tolist())]
    ends = [float(when(outer, 0, group, cum)) for group, cum in enumerate(needed)]
    return max(end for end in ends if end < np.inf)  # one without a share in the end may never come round
