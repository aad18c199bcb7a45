"""Token-exact mixing: which sample comes at which place of an epoch.

The order is a pure function of (token counts, shares, seed, epoch). At every place the modality furthest
behind its share of the tokens comes next (largest deficit), so that the shares hold all along the epoch,
not only on average: random draws by weight miss by whole points because samples differ in length.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from data_engine.recipe import Mixture
from data_engine.shard_index import Source

Order = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pool:
    """The samples to mix. `source`: each one's number in `sources`; `repeats`: how often it comes (default once)."""

    sources: Sequence[Source]
    source: npt.NDArray[np.uint16]
    tokens: npt.NDArray[np.int32]
    repeats: npt.NDArray[np.uint8] | None = None

    @property
    def modality(self) -> npt.NDArray[np.str_]:
        return np.array([source.modality for source in self.sources])[self.source]


class Schedule:
    """Interim: replaced by the fluid schedule."""

    def __init__(self, pool: Pool, mixture: Mixture, *, seed: int, epoch: int) -> None:
        names = [name for name, share in mixture.shares.items() if share > 0]
        queues = [_queue(pool, name, seed, epoch, number, mixture.max_repeats) for number, name in enumerate(names)]
        for name, queue in zip(names, queues, strict=True):
            if not len(queue):
                raise ValueError(f"mixture: no {name} sample to mix; drop its share or add a source")
        weights = np.array([mixture.shares[name] for name in names], dtype=np.float64)
        picks = _largest_deficit(
            [pool.tokens[queue] for queue in queues], weights / weights.sum(), mixture.epoch_tokens
        )
        self._order = _gather(queues, picks).astype(np.int32)

    def __len__(self) -> int:
        return len(self._order)

    def order(self) -> npt.NDArray[np.int32]:
        return self._order

    def chunks(self, start: int, size: int) -> Iterator[npt.NDArray[np.int32]]:
        for position in range(start, len(self), size):
            yield self._order[position : position + size]


def _queue(pool: Pool, name: str, seed: int, epoch: int, number: int, repeats: int) -> Order:
    """The modality's samples in this epoch's random order, `repeats` times over, each time reshuffled."""
    members = np.flatnonzero(pool.modality == name)
    if pool.repeats is not None:
        members = np.repeat(members, pool.repeats[members])
    random = np.random.Generator(np.random.Philox(key=[seed, (epoch << 8) | number]))
    return np.concatenate([random.permutation(members) for _ in range(repeats)])


def _largest_deficit(
    tokens: list[npt.NDArray[np.int64]], shares: npt.NDArray[np.float64], limit: int | None
) -> npt.NDArray[np.int8]:
    """Which queue is served at each place. Plain Python numbers: at three queues this beats arrays."""
    queues = [queue.tolist() for queue in tokens]
    share = shares.tolist()
    sources = range(len(queues))
    taken, used = [0] * len(queues), [0] * len(queues)
    picks: list[int] = []
    total = 0
    while limit is None or total < limit:
        best = max(sources, key=lambda m: share[m] * total - used[m])
        if taken[best] == len(queues[best]):
            break
        size = queues[best][taken[best]]
        taken[best] += 1
        used[best] += size
        total += size
        picks.append(best)
    return _best_end(np.array(picks, dtype=np.int8), tokens, shares)


def _best_end(
    picks: npt.NDArray[np.int8], tokens: list[npt.NDArray[np.int64]], shares: npt.NDArray[np.float64]
) -> npt.NDArray[np.int8]:
    """Cuts the epoch at the last of those places, among its last 32, where the worst share error is smallest."""
    used = np.stack([np.cumsum(_served(picks, number, queue)) for number, queue in enumerate(tokens)], axis=1)
    tail = used[-32:]
    error = np.abs(tail / tail.sum(axis=1, keepdims=True) - shares).max(axis=1)
    return picks[: len(picks) - int(error[::-1].argmin())]


def _served(picks: npt.NDArray[np.int8], number: int, queue: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Tokens this queue gives at each place (0 where another is served)."""
    mine = picks == number
    given = np.zeros(len(picks), dtype=np.int64)
    given[mine] = queue[: mine.sum()]
    return given


def _gather(queues: list[Order], picks: npt.NDArray[np.int8]) -> Order:
    order = np.empty(len(picks), dtype=np.int64)
    for number, queue in enumerate(queues):
        mine = picks == number
        order[mine] = queue[: mine.sum()]
    return order


def achieved(pool: Pool, order: Order) -> dict[str, float]:
    """The share of tokens each modality has in an order."""
    tokens, modality = pool.tokens[order], pool.modality[order]
    total = max(int(tokens.sum()), 1)
    return {str(name): float(tokens[modality == name].sum() / total) for name in np.unique(modality)}
