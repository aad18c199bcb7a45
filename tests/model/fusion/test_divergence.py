"""The divergence report against closed forms."""

import json
import math
from pathlib import Path

import pytest
import torch

from model.fusion.divergence import Divergence, divergence_table, module_of
from model.fusion.merge import merge
from model.modeling import KeyeForConditionalGeneration
from tests.model.fusion.folders import recipe, write


def merged(folder: Path, base: list[float], models: list[list[float]], name: str = "w") -> Divergence:
    """Task arithmetic of one tensor."""
    write(folder / "base", {name: torch.tensor(base, dtype=torch.float32)})
    paths = [
        write(folder / f"model{i}", {name: torch.tensor(one, dtype=torch.float32)}) for i, one in enumerate(models)
    ]
    return merge(recipe("task_arithmetic", paths, folder / "base"), folder / "out")


def test_distances_angles_and_signs(tmp_path: Path) -> None:
    """Base (3, 4, 0), of length 5; task vectors (1, 0, 0) and (1, 1, 0): 45 degrees apart, one shared sign."""
    whole = merged(tmp_path, [3, 4, 0], [[4, 4, 0], [4, 5, 0]]).whole
    assert whole.parameters == 3
    assert whole.distances == pytest.approx([1 / 5, math.sqrt(2) / 5])
    assert whole.cosines[0] == pytest.approx([1, math.sqrt(0.5)])
    assert whole.merged_distance == pytest.approx(math.sqrt(5) / 5)
    assert whole.merged_to_models == pytest.approx([math.sqrt(2) / 5, 1 / 5])


def test_signs_are_compared_where_both_moved(tmp_path: Path) -> None:
    whole = merged(tmp_path, [0, 0, 0, 0], [[1, -1, 2, 0], [3, 5, -1, 7]]).whole
    assert whole.sign_agreement == [[1, pytest.approx(1 / 3)], [pytest.approx(1 / 3), 1]]
    assert whole.distances[0] == pytest.approx(math.sqrt(6))  # a base of zeros counts as of length 1


def test_a_model_that_is_the_base_is_at_no_distance(tmp_path: Path) -> None:
    whole = merged(tmp_path, [1.5, -2], [[1.5, -2], [2, 2]]).whole
    assert whole.distances[0] == 0 and whole.cosines[0] == [0, 0] and whole.merged_to_models[1] == 0


def test_modules_come_from_the_eye_to_the_head(tmp_path: Path, model: KeyeForConditionalGeneration) -> None:
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    only = "model.layers.2.mlp.up_proj.weight"
    write(tmp_path / "base", base)
    write(tmp_path / "a", {**base, only: base[only] * 1.5})
    divergence = merge(recipe("task_arithmetic", [tmp_path / "a"], tmp_path / "base"), tmp_path / "out")
    vision = ["vision embeddings", *(f"vision block {i}" for i in range(3)), "vision norm", "projector"]
    language = ["word embeddings", *(f"language block {i}" for i in range(4)), "language norm", "head"]
    assert [row.name for row in divergence.modules] == [*vision, *language]
    assert [row.name for row in divergence.modules if row.distances[0] > 0] == ["language block 2"]
    assert sum(row.parameters for row in divergence.modules) == divergence.whole.parameters
    assert divergence.whole.parameters == sum(tensor.numel() for tensor in base.values())
    assert json.loads(divergence.to_json())["modules"][0]["name"] == "vision embeddings"


def test_numbers_of_blocks_are_in_their_order(tmp_path: Path) -> None:
    names = [f"model.layers.{i}.mlp.up_proj.weight" for i in (10, 2, 1)]
    folders = [write(tmp_path / name, {key: torch.randn(2, 2) for key in names}) for name in ("a", "b")]
    divergence = merge(recipe("linear", folders), tmp_path / "out")
    assert [row.name for row in divergence.modules] == [f"language block {i}" for i in (1, 2, 10)]


def test_other_models_are_grouped_by_their_first_name() -> None:
    assert module_of("encoder.layers.0.weight") == "encoder" and module_of("visual.other.weight") == "vision norm"


def test_the_table_has_a_line_for_each_module(tmp_path: Path) -> None:
    divergence = merged(tmp_path, [3, 4], [[4, 4], [3, 5]], name="lm_head.bias")
    table = divergence_table(divergence)
    assert table.row_count == 2
    assert list(table.columns[0].cells) == ["head", "whole model"]
    assert [column.header for column in table.columns[2:4]] == ["model0", "model1"]
    assert next(iter(table.columns[2].cells)) == "2.00e-01"
