"""Which rank reads which place: every rank's own stream keeps the shares, not only all of them together.

Places are dealt in rounds, one to each rank. Within a round the sample that weighs most in its modality goes first, to
the rank that lags most in it. The deal is a function of the order and of the place it began at.
"""

import numba
import numpy as np
import numpy.typing as npt


class Deal:
    """Deals places to `world_size` ranks, from a place at which all of them stand level.

    Of its tokens so far a rank lacks, of a modality, what the share of all ranks together would give it and it has not
    had. So shares hold on every rank whatever decides them: phases, sources that run out.
    """

    def __init__(self, num_modalities: int, world_size: int) -> None:
        self._had = np.zeros((num_modalities, world_size))

    def ranks(self, modality: npt.NDArray[np.int64], tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """The rank of each of the next places; whole rounds, but for the last of an epoch."""
        dealt: npt.NDArray[np.int64] = _deal(self._had, modality, tokens)
        return dealt


@numba.njit(cache=True)
def _deal(had, modality, tokens):  # type: ignore[no-untyped-def]
    """`had` [modalities, ranks]: tokens so far, brought up to date in place."""
    num_modalities, world_size = had.shape
    dealt = np.empty(len(tokens), np.int64)
    lacking = np.empty((num_modalities, world_size))
    weight = np.empty(world_size)
    for first in range(0, len(tokens), world_size):
        last = min(first + world_size, len(tokens))
        share = _shares(had, modality[first:last], tokens[first:last])
        for rank in range(world_size):
            total = had[:, rank].sum()
            level = 0.0
            for name in range(num_modalities):
                lacking[name, rank] = share[name] * total - had[name, rank]
                level += share[name] * lacking[name, rank]
            lacking[:, rank] -= level
        for place in range(first, last):
            weight[place - first] = -tokens[place] / share[modality[place]]
        for turn in np.argsort(weight[: last - first], kind="mergesort"):
            name = modality[first + turn]
            chosen = np.argmax(lacking[name])
            lacking[:, chosen] = -np.inf
            dealt[first + turn] = chosen
            had[name, chosen] += tokens[first + turn]
    return dealt


@numba.njit(cache=True)
def _shares(had, modality, tokens):  # type: ignore[no-untyped-def]
    """The share of each modality in all tokens, those of this round among them."""
    share = np.empty(len(had))
    for name in range(len(had)):
        share[name] = had[name].sum()
    for place in range(len(tokens)):
        share[modality[place]] += tokens[place]
    return share / share.sum()
