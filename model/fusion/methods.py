"""Merge methods: formulas over tensors, and how each goes over a tensor too large to be held whole.

`x_i` are the models' values of one tensor, `b` the base's, `w_i` the weights and `d_i = x_i - b` the task vectors; all
in float32. A method that needs to know something of the whole tensor (an angle, a magnitude) learns it in a first pass
over its chunks of rows; what the chunks are makes no difference to the result.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Method = Literal["linear", "slerp", "task_arithmetic", "ties", "dare_linear", "dare_ties", "model_stock"]
METHODS: tuple[Method, ...] = get_args(Method)
BASELESS: tuple[Method, ...] = ("linear", "slerp")
SPARSE: tuple[Method, ...] = ("ties", "dare_linear", "dare_ties")
"""The methods that keep only a share of each task vector, its density."""

COLLINEAR = 0.9995
"""From this cosine on (or below its negative), slerp is a straight line: the angle's sine is too small to divide by."""

LOW_BITS = 16
"""A float32's bits are counted in two passes: the upper 16, then the lower 16 of those at the threshold."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """One tensor of all models. `read` gives some rows of the base [R, ...] and of each model, in float32."""

    name: str
    shape: tuple[int, ...]
    chunk_rows: int
    read: Callable[[slice], tuple[Tensor, list[Tensor]]]

    def slices(self) -> Iterator[slice]:
        """Where the chunks lie, in order; one chunk for a scalar."""
        num_rows = self.shape[0] if self.shape else 1
        for start in range(0, num_rows, self.chunk_rows):
            yield slice(start, min(start + self.chunk_rows, num_rows))

    def deltas(self) -> Iterator[list[Tensor]]:
        """The models' task vectors, chunk by chunk."""
        for rows in self.slices():
            base, models = self.read(rows)
            yield [model - base for model in models]


Combine = Callable[[Tensor, list[Tensor]], Tensor]
"""Base and models to merged, for one chunk. To be called once for each chunk, in order: DARE draws as it goes."""


def prepare(
    method: Method, inputs: Inputs, weights: Sequence[float], densities: Sequence[float], seed: int = 0
) -> Combine:
    """The merge of one tensor, after whatever passes over it the method needs.

    `weights` and `densities` have one number per model; methods that have none ignore them.
    """
    match method:
        case "linear":
            return lambda base, models: linear(models, weights)
        case "slerp":
            t = weights[1] / (weights[0] + weights[1])
            pair = slerp_coefficients(cosine_of_models(inputs), t)
            return lambda base, models: pair[0] * models[0] + pair[1] * models[1]
        case "task_arithmetic":
            return lambda base, models: base + weighted_sum(_deltas(base, models), weights)
        case "ties":
            return partial(_merge_ties, weights, thresholds(inputs, densities))
        case "dare_linear" | "dare_ties":
            masks = [bernoulli(inputs.name, index, density, seed) for index, density in enumerate(densities)]
            return partial(_merge_dare, method, weights, densities, masks)
        case "model_stock":
            t = stock_ratio(cosines(sum_gram(inputs.deltas())))
            return lambda base, models: base + t * (sum(_deltas(base, models)) / len(models))


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """`sum(w_i x_i)`."""
    total = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.add_(tensor, alpha=weight)
    return total


def linear(models: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """`sum(w_i x_i) / sum(w_i)` (model soups, arXiv 2203.05482). The weights must not sum to 0."""
    return weighted_sum(models, weights) / sum(weights)


def slerp_coefficients(cosine: float, t: float) -> tuple[float, float]:
    """Factors of the first and the second model at `t` of the way along the arc (`t = 0`: the first).

    With the angle `a` between the models: `sin((1 - t) a) / sin(a)` and `sin(t a) / sin(a)` (Shoemake 1985).
    """
    if abs(cosine) > COLLINEAR:
        return 1 - t, t
    angle = math.acos(cosine)
    return _float32(math.sin((1 - t) * angle) / math.sin(angle)), _float32(math.sin(t * angle) / math.sin(angle))


def elect(deltas: Sequence[Tensor], weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    """TIES' election (arXiv 2306.01708, section 4): per value, the sign of `sum(w_i d_i)`, + where that is 0.

    Returns the sum of the weighted task vectors of that sign, and the sum of their weights.
    """
    weighted = [delta * weight for delta, weight in zip(deltas, weights, strict=True)]
    elected = torch.where(sum(weighted[1:], weighted[0]) >= 0, 1.0, -1.0)
    total, divisor = torch.zeros_like(elected), torch.zeros_like(elected)
    for one, weight in zip(weighted, weights, strict=True):
        agrees = one.sign() == elected
        total += one * agrees
        divisor.add_(agrees, alpha=weight)
    return total, divisor


def ties(deltas: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The merged task vector: per value the weighted mean of those with the elected sign, 0 where there are none."""
    total, divisor = elect(deltas, weights)
    return total / torch.where(divisor == 0, 1.0, divisor)


def trim(delta: Tensor, threshold: float) -> Tensor:
    """The values of at least this magnitude; 0 for the others."""
    return delta * (delta.abs() >= threshold)


def drop_and_rescale(delta: Tensor, kept: Tensor, density: float) -> Tensor:
    """DARE (arXiv 2311.03099): the kept values over the share kept, so that the expectation stays."""
    return delta * kept / density


def stock_ratio(cosine: Tensor) -> float:
    """How far from the base towards the mean of N models (model stock, arXiv 2403.19522, eq. 7).

    `N c / (1 + (N - 1) c)`, where `c` is the mean of the task vectors' pairwise cosines [N, N]. Where the denominator
    is 0 the vectors cancel out, and the base is kept.
    """
    count = len(cosine)
    mean = float(cosine[torch.triu_indices(count, count, 1).unbind()].mean())
    denominator = 1 + (count - 1) * mean
    return _float32(count * mean / denominator) if abs(denominator) >= 1e-6 else 0.0


def thresholds(inputs: Inputs, densities: Sequence[float]) -> list[float]:
    """For each model the smallest magnitude that TIES keeps: the k-th largest, `k = max(1, int(density n))`.

    Values of equal magnitude stay or go together, so more than k stay where several share the threshold.
    """
    numel = math.prod(inputs.shape)
    ranks = [max(1, int(density * numel)) for density in densities]
    if all(density == 1 for density in densities) or numel == 0:
        return [0.0] * len(densities)
    upper = _counts(inputs, [None] * len(ranks))
    bins = [_bin_of_rank(counts, rank) for counts, rank in zip(upper, ranks, strict=True)]
    lower = _counts(inputs, [high for high, _ in bins])
    lows = [_bin_of_rank(counts, rest)[0] for counts, (_, rest) in zip(lower, bins, strict=True)]
    bits = [(high << LOW_BITS) | low for (high, _), low in zip(bins, lows, strict=True)]
    return [float(np.array(one, dtype=np.int32).view(np.float32)) for one in bits]


def _counts(inputs: Inputs, upper: Sequence[int | None]) -> list[Tensor]:
    """Per model how many magnitudes have each upper half of bits, or each lower half below a given upper one."""
    counts = [torch.zeros(1 << LOW_BITS, dtype=torch.int64) for _ in upper]
    for deltas in inputs.deltas():
        for index, (delta, high) in enumerate(zip(deltas, upper, strict=True)):
            # Positive floats are in the order of their bits.
            bits = delta.abs().reshape(-1).view(torch.int32)
            halves = bits >> LOW_BITS
            if high is not None:
                halves = bits[halves == high] & ((1 << LOW_BITS) - 1)
            counts[index] += torch.bincount(halves, minlength=1 << LOW_BITS)
    return counts


def _bin_of_rank(counts: Tensor, rank: int) -> tuple[int, int]:
    """The bin of the `rank`-th largest, and its rank within that bin (1 = the largest)."""
    from_top = counts.flip(0).cumsum(0)
    place = int(torch.searchsorted(from_top, rank))
    return len(counts) - 1 - place, rank - int(from_top[place - 1] if place else 0)


def bernoulli(name: str, model: int, density: float, seed: int) -> Callable[[torch.Size], Tensor]:
    """A stream of masks that are 1 with probability `density`; a function of seed, tensor and model alone."""
    digest = hashlib.sha256(f"{seed}/{model}/{name}".encode()).digest()
    stream = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))

    def draw(shape: torch.Size) -> Tensor:
        uniform: NDArray[np.float32] = stream.random(tuple(shape), dtype=np.float32)
        return torch.from_numpy(uniform) < density

    return draw


def gram(tensors: Sequence[Tensor]) -> Tensor:
    """Inner products [N, N] of N tensors, summed in float64."""
    flat = torch.stack([tensor.reshape(-1) for tensor in tensors]).double()
    return flat @ flat.T


def sum_gram(chunks: Iterator[list[Tensor]]) -> Tensor:
    """Inner products [N, N] of N tensors that come in chunks, float64."""
    total = gram(next(chunks))
    for tensors in chunks:
        total += gram(tensors)
    return total


def cosines(products: Tensor) -> Tensor:
    """Pairwise cosines from inner products [N, N]; 0 with a vector that is 0."""
    norms = products.diagonal().sqrt()
    scale = torch.outer(norms, norms)
    return torch.where(scale > 0, products / torch.where(scale > 0, scale, 1.0), 0.0).clamp(-1, 1)


def cosine_of_models(inputs: Inputs) -> float:
    """The cosine of two models' values of a tensor."""
    return float(cosines(sum_gram(inputs.read(rows)[1] for rows in inputs.slices()))[0, 1])


def _merge_ties(weights: Sequence[float], kept_from: Sequence[float], base: Tensor, models: list[Tensor]) -> Tensor:
    deltas = [trim(delta, least) for delta, least in zip(_deltas(base, models), kept_from, strict=True)]
    return base + ties(deltas, weights)


def _merge_dare(
    method: Method,
    weights: Sequence[float],
    densities: Sequence[float],
    masks: Sequence[Callable[[torch.Size], Tensor]],
    base: Tensor,
    models: list[Tensor],
) -> Tensor:
    deltas = [
        drop_and_rescale(delta, mask(delta.shape), density)
        for delta, mask, density in zip(_deltas(base, models), masks, densities, strict=True)
    ]
    return base + (weighted_sum(deltas, weights) if method == "dare_linear" else elect(deltas, weights)[0])


def _deltas(base: Tensor, models: Sequence[Tensor]) -> list[Tensor]:
    return [model - base for model in models]


def _float32(value: float) -> float:
    """Rounded to float32: the order in which float64 sums were made does not show."""
    return float(np.float32(value))
