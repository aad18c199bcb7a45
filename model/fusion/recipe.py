"""The YAML of a merge: the method, the models with their weights, and the base where the method has one."""

import math
from pathlib import Path
from typing import Literal, Self

from pydantic import field_validator, model_validator

from model.fusion.methods import BASELESS, SPARSE, Method
from strict_yaml import Strict, parse_yaml

DType = Literal["float32", "bfloat16", "float16"]


class MergeModel(Strict):
    """One model: a folder in transformers' form, its weight, and the share of its task vector that is kept."""

    path: Path
    weight: float = 1.0
    density: float | None = None

    @field_validator("weight")
    @classmethod
    def _finite(cls, weight: float) -> float:
        if not math.isfinite(weight):
            raise ValueError("must be a finite number")
        return weight

    @field_validator("density")
    @classmethod
    def _share(cls, density: float | None) -> float | None:
        if density is not None and not 0 < density <= 1:
            raise ValueError(f"{density} is outside (0, 1]: give the share of values to keep")
        return density


class MergeRecipe(Strict):
    """A merge. Without `dtype` each tensor keeps the type that it has in the base (or the first model)."""

    method: Method
    base: Path | None = None
    models: tuple[MergeModel, ...]
    dtype: DType | None = None
    seed: int = 0

    @property
    def reference(self) -> Path:
        """The folder whose config and vocabulary the result has: the base, or the first model."""
        return self.base if self.base is not None else self.models[0].path

    @property
    def weights(self) -> list[float]:
        return [model.weight for model in self.models]

    @property
    def densities(self) -> list[float]:
        """1 for the methods that keep everything."""
        return [1.0 if model.density is None else model.density for model in self.models]

    @model_validator(mode="after")
    def _suits_the_method(self) -> Self:
        fault = _fault_of_base(self) or _fault_of_number(self) or _fault_of_weights(self) or _fault_of_densities(self)
        if fault:
            raise ValueError(fault)
        return self


def load_recipe(path: Path) -> MergeRecipe:
    """Reads a merge's YAML; its paths are relative to the YAML's folder.

    Raises RecipeError naming the file, the field and the fix.
    """
    recipe = parse_yaml(path, MergeRecipe)
    models = tuple(model.model_copy(update={"path": path.parent / model.path}) for model in recipe.models)
    base = None if recipe.base is None else path.parent / recipe.base
    return recipe.model_copy(update={"models": models, "base": base})


def _fault_of_base(recipe: MergeRecipe) -> str | None:
    if recipe.method in BASELESS and recipe.base is not None:
        return f"base: {recipe.method} has none; remove it, or list it among the models"
    if recipe.method not in BASELESS and recipe.base is None:
        return f"base: {recipe.method} needs one: the model that the others were trained from"
    return None


def _fault_of_number(recipe: MergeRecipe) -> str | None:
    count = len(recipe.models)
    if count == 0:
        return "models: there are none; list at least one"
    if recipe.method == "linear" and count < 2:
        return "models: linear averages two or more; list another"
    if recipe.method == "slerp" and count != 2:
        return f"models: slerp merges two, not {count}; use linear for more"
    if recipe.method == "model_stock" and count < 2:
        return "models: model_stock needs two or more beside the base; use task_arithmetic for one"
    return None


def _fault_of_weights(recipe: MergeRecipe) -> str | None:
    if recipe.method == "model_stock" and any("weight" in model.model_fields_set for model in recipe.models):
        return "models.weight: model_stock finds its own from the angles; remove it"
    if recipe.method == "slerp" and min(recipe.weights) < 0:
        return "models.weight: slerp's must not be negative; the second's share is the way along the arc"
    if recipe.method in ("linear", "slerp", "ties") and abs(sum(recipe.weights)) < 1e-8:
        return f"models.weight: the weights sum to 0, and {recipe.method} divides by their sum; change one"
    return None


def _fault_of_densities(recipe: MergeRecipe) -> str | None:
    given = [model.density is not None for model in recipe.models]
    if recipe.method in SPARSE and not all(given):
        return f"models.{given.index(False)}.density: {recipe.method} needs it: the share of the task vector to keep"
    if recipe.method not in SPARSE and any(given):
        return f"models.{given.index(True)}.density: {recipe.method} has none; remove it"
    return None
