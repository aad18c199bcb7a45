"""What a sample costs: FLOPs by part of the model, and seconds, fitted to steps that were measured where it trains.

Attention in the vision tower stays within each picture (so it goes by the sum of squared patches), that of the language
model within each sample. The output layer is left to the fit: the index does not count targets.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_engine.media import write_atomic
from model.configuration import KeyeConfig
from model.cost import language_flops, projector_flops, vision_flops

Floats = npt.NDArray[np.float64]

TERMS = ("vision", "vision_attention", "projector", "language", "language_attention")
"""Forward FLOPs of: the tower's matrices, its attention, the projector, the blocks' matrices, their attention."""

HELD_OUT = 4
"""Of so many measured steps one is kept from the fit, to judge it."""


def terms(
    config: KeyeConfig, tokens: npt.ArrayLike, visual_tokens: npt.ArrayLike, squared_patches: npt.ArrayLike
) -> Floats:
    """[N, 5] `TERMS` of samples, from columns of the shard index."""
    merge = config.vision_config.spatial_merge_size**2
    patch, squared_patch = _linear_and_squared(lambda n: vision_flops(config.vision_config, [(n, 1)]))
    token, squared_token = _linear_and_squared(lambda n: language_flops(config.text_config, [n]))
    whole, seen = np.asarray(tokens, np.float64), np.asarray(visual_tokens, np.float64)
    columns = [
        patch * merge * seen,
        squared_patch * np.asarray(squared_patches, np.float64),
        projector_flops(config, [(merge, 1)]) * seen,
        token * whole,
        squared_token * whole**2,
    ]
    return np.stack(columns, axis=-1)


def _linear_and_squared(flops: Callable[[int], int]) -> tuple[float, float]:
    """a and b of a n + b n^2."""
    one, two = flops(1), flops(2)
    squared = (two - 2 * one) / 2
    return one - squared, squared


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds of forward and backward: for a FLOP of each of `TERMS`, and `per_row` for a row whatever it holds.

    How well it tells steps it was not fitted to: `r2`, and the median and 95th percentile of the relative error.
    """

    seconds_per_flop: tuple[float, ...]
    per_row: float
    r2: float
    median_error: float
    p95_error: float
    steps: int
    device: str

    def seconds(self, found: Floats) -> Floats:
        """[N] seconds of samples (or rows: sums of samples) of `terms` [N, 5], without what a row costs anyway."""
        return np.asarray(found @ np.array(self.seconds_per_flop))

    def save(self, path: Path) -> None:
        write_atomic(path, json.dumps(asdict(self), indent=1).encode())

    @classmethod
    def load(cls, path: Path) -> "CostModel":
        """Raises ValueError for a file that is no cost model, naming the command that makes one."""
        try:
            told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**told, "seconds_per_flop": tuple(told["seconds_per_flop"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: not a cost model ({error}); make one with `keyeforge train cost`") from error


def fit(found: Floats, rows: npt.ArrayLike, seconds: Floats, device: str) -> CostModel:
    """The cost model of measured steps: `found` [S, 5] their terms, `rows` [S] how many rows, `seconds` [S].

    Least squares of relative errors, no coefficient below zero. Raises ValueError for fewer than 12 steps.
    """
    from scipy.optimize import nnls

    if len(seconds) < 3 * HELD_OUT:
        raise ValueError(f"cost: {len(seconds)} measured steps are too few to fit {len(TERMS) + 1} coefficients")
    design = np.column_stack([found, np.broadcast_to(rows, len(seconds))]).astype(np.float64)
    judged = np.arange(len(seconds)) % HELD_OUT == HELD_OUT - 1
    scale = np.where(design.max(axis=0) > 0, design.max(axis=0), 1.0)
    weighted = (design / scale)[~judged] / seconds[~judged, None]
    coefficients = nnls(weighted, np.ones(len(weighted)))[0] / scale
    told, true = design[judged] @ coefficients, seconds[judged]
    errors = np.abs(told - true) / true
    r2 = 1 - float(((told - true) ** 2).sum() / ((true - true.mean()) ** 2).sum())
    return CostModel(
        seconds_per_flop=tuple(coefficients[:-1].tolist()),
        per_row=float(coefficients[-1]),
        r2=r2,
        median_error=float(np.median(errors)),
        p95_error=float(np.quantile(errors, 0.95)),
        steps=len(seconds),
        device=device,
    )


def timed(steps: Iterable[Callable[[], None]], synchronise: Callable[[], None], rounds: int = 3) -> Floats:
    """Seconds of each step: the best of `rounds`, which go over all steps in turn; one round before is not counted."""
    work = list(steps)
    seconds = np.full(len(work), np.inf)
    for turn in range(rounds + 1):
        for number, step in enumerate(work):
            synchronise()
            began = time.perf_counter()
            step()
            synchronise()
            if turn:
                seconds[number] = min(seconds[number], time.perf_counter() - began)
    return seconds
