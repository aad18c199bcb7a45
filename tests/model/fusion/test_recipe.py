"""What a merge's YAML may say, and how it is told what it may not."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from model.fusion.recipe import load_recipe
from strict_yaml import RecipeError


def write(folder: Path, **recipe: Any) -> Path:
    path = folder / "merge.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def models(*paths: str, **more: Any) -> list[dict[str, Any]]:
    return [{"path": path, **more} for path in paths]


def test_a_recipe_is_read_and_its_paths_are_beside_it(tmp_path: Path) -> None:
    entries = [{"path": "a", "weight": 0.5, "density": 0.2}, {"path": "/models/b", "density": 0.3}]
    recipe = load_recipe(write(tmp_path, method="ties", base="base", models=entries, dtype="bfloat16", seed=3))
    assert recipe.base == tmp_path / "base" and [one.path for one in recipe.models] == [
        tmp_path / "a",
        Path("/models/b"),
    ]
    assert recipe.weights == [0.5, 1.0] and recipe.densities == [0.2, 0.3]
    assert (recipe.dtype, recipe.seed, recipe.reference) == ("bfloat16", 3, tmp_path / "base")


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"method": "slerp", "models": models("a", "b", "c")}, "models: slerp merges two, not 3"),
        ({"method": "slerp", "models": [{"path": "a", "weight": 2}, {"path": "b", "weight": -1}]}, "not be negative"),
        ({"method": "ties", "models": models("a", density=0.5)}, "base: ties needs one"),
        ({"method": "linear", "base": "b", "models": models("a", "b")}, "base: linear has none"),
        ({"method": "linear", "models": [{"path": "a"}, {"path": "b", "weight": -1}]}, "the weights sum to 0"),
        ({"method": "linear", "models": []}, "models: there are none"),
        ({"method": "linear", "models": models("a")}, "models: linear averages two or more"),
        ({"method": "linear", "models": models("a", weight=float("nan"))}, "models.0.weight"),
        ({"method": "ties", "base": "b", "models": models("a", density=0)}, "models.0.density"),
        ({"method": "ties", "base": "b", "models": models("a", density=1.5)}, "outside (0, 1]"),
        ({"method": "ties", "base": "b", "models": models("a")}, "models.0.density: ties needs it"),
        ({"method": "task_arithmetic", "base": "b", "models": models("a", density=0.5)}, "task_arithmetic has none"),
        ({"method": "model_stock", "base": "b", "models": models("a")}, "model_stock needs two"),
        ({"method": "model_stock", "base": "b", "models": models("a", "c", weight=0.5)}, "models.weight"),
        ({"method": "lerp", "models": models("a")}, "method"),
        ({"method": "linear", "models": models("a"), "dtypes": "float32"}, "did you mean 'dtype'?"),
    ],
)
def test_what_cannot_be_merged_is_refused_in_one_line(tmp_path: Path, recipe: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, **recipe))
    message = str(caught.value)
    assert said in message and "merge.yaml" in message and "\n" not in message
