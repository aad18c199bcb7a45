"""Our methods against mergekit 0.1.5's own functions, which run in a process and a folder of their own.

mergekit (LGPL-3) is a tool of this test alone: fetched once into the cache, never imported here.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.fusion.methods import BASELESS, Inputs, Method, drop_and_rescale, elect, prepare, weighted_sum

MERGEKIT = "mergekit==0.1.5"

SHAPE = (24, 17)
WEIGHTS = [0.7, 0.4, 1.1]

Oracle = Callable[[list[dict[str, Any]], dict[str, Tensor]], dict[str, Tensor]]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    mergekit = fetched()

    def run(cases: list[dict[str, Any]], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        folder = tmp_path_factory.mktemp("oracle")
        (folder / "cases.json").write_text(json.dumps(cases))
        save_file(inputs, folder / "inputs.safetensors")
        driver = Path(__file__).with_name("mergekit_oracle.py")
        done = subprocess.run([sys.executable, driver, mergekit, folder], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        results: dict[str, Tensor] = load_file(folder / "results.safetensors")
        return results

    return run


def fetched() -> Path:
    """mergekit's folder in the cache; the test is skipped where it cannot be had."""
    cache = Path(os.environ.get("KEYEFORGE_CACHE", Path.home() / ".cache" / "keyeforge"))
    target = cache / "oracles" / "mergekit-0.1.5"
    if target.is_dir():
        return target
    hidden = target.with_name(f".{target.name}.{os.getpid()}")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(hidden), MERGEKIT]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            pytest.skip(f"mergekit 0.1.5 was not to be had: {done.stderr.strip().splitlines()[-1:]}")
        hidden.rename(target)
    except subprocess.TimeoutExpired:
        pytest.skip("mergekit 0.1.5 was not to be had in two minutes")
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return target


def as_case(method: str, name: str, base_index: int | None, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"method": method, "name": name, "base_index": base_index, "parameters": parameters, "density": None}


def ours(method: Method, base: Tensor, models: Sequence[Tensor], weights: Sequence[float], density: float) -> Tensor:
    inputs = Inputs("w", SHAPE, 5, lambda rows: (base[rows], [model[rows] for model in models]))
    combine = prepare(method, inputs, weights, [density] * len(models))
    return torch.cat([combine(*inputs.read(rows)) for rows in inputs.slices()])


def theirs(method: Method, weights: Sequence[float], density: float) -> dict[str, Any]:
    """mergekit's parameters for the same merge; those of models are keyed by place, the base's place being 0."""
    match method:
        case "linear":
            return {"weight": list(weights)}
        case "slerp":
            return {"t": weights[1] / sum(weights)}
        case "model_stock":
            return {}
        case _:
            by_place = {"weight": dict(enumerate(weights, start=1))}
            share = {"density": dict.fromkeys(range(1, len(weights) + 1), density)}
            return by_place | share if method == "ties" else by_place


CASES: list[tuple[Method, list[float], float]] = [
    ("linear", WEIGHTS, 1.0),
    ("linear", [1.0, 1.0, 1.0], 1.0),
    ("slerp", [1.0, 0.0], 1.0),
    ("slerp", [0.7, 0.3], 1.0),
    ("slerp", [0.0, 1.0], 1.0),
    ("task_arithmetic", WEIGHTS, 1.0),
    ("task_arithmetic", [-0.5, 1.0, 0.5], 1.0),
    ("ties", WEIGHTS, 0.1),
    ("ties", WEIGHTS, 0.37),
    ("ties", [-0.5, 1.0, 0.5], 0.5),
    ("ties", WEIGHTS, 1.0),
    ("model_stock", [1.0, 1.0, 1.0], 1.0),
]


def test_every_method_agrees_with_mergekit(oracle: Oracle) -> None:
    """One process for all: models near their base, as fine-tuning leaves them, and far from it."""
    cases: list[dict[str, Any]] = []
    inputs: dict[str, Tensor] = {}
    expected: dict[str, Tensor] = {}
    for scale in (0.02, 1.0):
        base = torch.randn(SHAPE)
        for method, weights, density in CASES:
            name = f"{method} {len(cases)}"
            models = [base + scale * torch.randn(SHAPE) for _ in weights]
            expected[name] = ours(method, base, models, weights, density)
            given = models if method in BASELESS else [base, *models]
            inputs |= {f"{name}.{index}": tensor.clone() for index, tensor in enumerate(given)}
            base_index = None if method == "linear" else 0  # slerp's base is the model at t = 0
            parameters = theirs(method, weights, density)
            cases.append(as_case(method, name, base_index, parameters))
    results = oracle(cases, inputs)
    for name, result in expected.items():
        difference = (result - results[name]).abs().max()
        assert torch.allclose(result, results[name], rtol=1e-5, atol=1e-6), f"{name}: {difference}"


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_agrees_with_mergekit_on_the_masks_it_drew(oracle: Oracle, method: str) -> None:
    """Ours divides by the density, as the paper; mergekit does with `rescale: false` and weights over density."""
    density = 0.4
    base = torch.randn(SHAPE)
    models = [base + torch.randn(SHAPE) for _ in WEIGHTS]
    parameters = {
        "weight": {index + 1: weight / density for index, weight in enumerate(WEIGHTS)},
        "density": dict.fromkeys((1, 2, 3), density),
        "rescale": False,
    }
    cases = [{**as_case(method, "w", 0, parameters), "density": density}]
    results = oracle(cases, {f"w.{index}": tensor for index, tensor in enumerate([base, *models])})
    masks = [results[f"w.mask.{index}"] for index in range(3)]
    assert 0.2 < float(masks[0].mean()) < 0.6 and not torch.equal(masks[0], masks[1])
    deltas = [drop_and_rescale(model - base, mask, density) for model, mask in zip(models, masks, strict=True)]
    combined = weighted_sum(deltas, WEIGHTS) if method == "dare_linear" else elect(deltas, WEIGHTS)[0]
    torch.testing.assert_close(base + combined, results["w"], rtol=1e-5, atol=1e-6)
