"""How far models lie from their base, module by module, and from one another: what a merge has to reconcile."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor

from model.fusion.methods import cosines, gram

MODULES = (
    (r"visual\.vision_model\.embeddings\.", "vision embeddings"),
    (r"visual\.vision_model\.encoder\.layers\.(\d+)\.", "vision block {}"),
    (r"visual\.", "vision norm"),
    (r"mlp_AR\.", "projector"),
    (r"model\.embed_tokens\.", "word embeddings"),
    (r"model\.layers\.(\d+)\.", "language block {}"),
    (r"model\.norm\.", "language norm"),
    (r"lm_head\.", "head"),
)
"""What a tensor's name begins with, and the module it belongs to; in the order of the report."""

WHOLE = "whole model"


@dataclass(frozen=True, slots=True)
class ModuleDivergence:
    """One module. Task vectors are the differences from the base; models are in the recipe's order.

    `distances`: `||x_i - b|| / ||b||` per model; `merged_distance`: the result's. `cosines` and `sign_agreement`
    [N, N] are of the models' task vectors, the latter the share of equal signs where neither is 0 (0 if nowhere).
    `merged_to_models`: `||m - x_i|| / ||b||`. A base of zeros counts as of length 1.
    """

    name: str
    parameters: int
    distances: list[float]
    cosines: list[list[float]]
    sign_agreement: list[list[float]]
    merged_distance: float
    merged_to_models: list[float]


@dataclass(frozen=True, slots=True)
class Divergence:
    """A merge's report: the whole model, then its modules from the eye to the head."""

    base: str
    models: list[str]
    whole: ModuleDivergence
    modules: list[ModuleDivergence]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


class Sums:
    """What a module's row is computed from, gathered chunk by chunk: inner products and counts of signs."""

    def __init__(self, num_models: int) -> None:
        self.parameters = 0
        self.products = torch.zeros(num_models + 2, num_models + 2, dtype=torch.float64)
        self.same_signs = torch.zeros(num_models, num_models, dtype=torch.float64)
        self.both_nonzero = torch.zeros(num_models, num_models, dtype=torch.float64)

    def add(self, base: Tensor, models: Sequence[Tensor], merged: Tensor) -> None:
        """Takes one chunk."""
        deltas = [model - base for model in models]
        self.parameters += base.numel()
        self.products += gram([base, *deltas, merged - base])
        if len(deltas) > 1:
            same, both = count_signs(deltas)
            self.same_signs += same
            self.both_nonzero += both

    def is_finite(self) -> bool:
        """False as soon as one value of the models or of the result is infinite or not a number."""
        return bool(self.products.isfinite().all())

    def __add__(self, other: "Sums") -> "Sums":
        total = Sums(len(self.same_signs))
        total.parameters = self.parameters + other.parameters
        total.products = self.products + other.products
        total.same_signs = self.same_signs + other.same_signs
        total.both_nonzero = self.both_nonzero + other.both_nonzero
        return total

    def row(self, name: str) -> ModuleDivergence:
        """The figures of what was added."""
        num_models = len(self.same_signs)
        lengths = self.products.diagonal()
        scale = float(lengths[0].sqrt()) or 1.0
        # |m - x|^2 = |m - b|^2 + |x - b|^2 - 2 (m - b)(x - b)
        apart = (lengths[1:-1] + lengths[-1] - 2 * self.products[-1, 1:-1]).clamp(min=0)
        return ModuleDivergence(
            name=name,
            parameters=self.parameters,
            distances=(lengths[1:-1].sqrt() / scale).tolist(),
            cosines=cosines(self.products[1 : num_models + 1, 1 : num_models + 1]).tolist(),
            sign_agreement=(self.same_signs / self.both_nonzero.clamp(min=1)).tolist(),
            merged_distance=float(lengths[-1].sqrt()) / scale,
            merged_to_models=(apart.sqrt() / scale).tolist(),
        )


def count_signs(tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """[N, N] counts: where two tensors have the same sign and are not 0, and where neither is 0."""
    signs = [tensor.sign() for tensor in tensors]
    both = gram([sign.abs() for sign in signs])
    return (both + gram(signs)) / 2, both


def module_of(tensor: str) -> str:
    """The module that a tensor belongs to; the first part of the name for a name of another model."""
    for prefix, module in MODULES:
        found = re.match(prefix, tensor)
        if found:
            return module.format(*found.groups())
    return tensor.split(".", maxsplit=1)[0]


def divergence_of(base: str, models: Sequence[str], sums: dict[str, Sums]) -> Divergence:
    """The report from the sums of each module, in the order of `MODULES`."""
    ordered = sorted(sums, key=_place)
    total = Sums(len(models))
    for name in ordered:
        total = total + sums[name]
    return Divergence(base, list(models), total.row(WHOLE), [sums[name].row(name) for name in ordered])


def divergence_table(divergence: Divergence) -> Table:
    """Per module: each model's distance from the base, how their task vectors agree, and where the result lies."""
    table = Table(title=f"relative distance from {divergence.base}")
    for column in ("module", "parameters", *_short(divergence.models), "cosine", "same sign", "merged"):
        table.add_column(column, justify="left" if column == "module" else "right")
    for row in (*divergence.modules, divergence.whole):
        pairs = [f"{_mean_pair(values):.3f}" if len(values) > 1 else "" for values in (row.cosines, row.sign_agreement)]
        distances = [f"{value:.2e}" for value in row.distances]
        table.add_row(row.name, f"{row.parameters:,}", *distances, *pairs, f"{row.merged_distance:.2e}")
    return table


def _short(folders: Sequence[str]) -> list[str]:
    """The folders without what their paths have in common."""
    above = os.path.commonpath([Path(folder).absolute().parent for folder in folders])
    return [str(Path(folder).absolute().relative_to(above)) for folder in folders]


def _mean_pair(values: list[list[float]]) -> float:
    """The mean over pairs of models."""
    pairs = [values[i][j] for i in range(len(values)) for j in range(i)]
    return sum(pairs) / len(pairs)


def _place(module: str) -> tuple[int, int, str]:
    """Where a module comes in the report: by kind, then by number, then by name."""
    kinds = [name.removesuffix(" {}") for _, name in MODULES]
    kind, number = re.fullmatch(r"(.*?)(?: (\d+))?", module).groups()  # type: ignore[union-attr]
    return kinds.index(kind) if kind in kinds else len(kinds), int(number or 0), module
