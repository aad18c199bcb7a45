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

from model.fusion.methods import Inputs, Method, drop_and_rescale, elect, prepare, weighted_sum

PACKAGES = ("mergekit==0.1.5", "immutables==0.21", "peft==0.18.0", "click==8.2.1")
"""mergekit and what it imports that the environment lacks."""

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
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(hidden), *PACKAGES]
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


def case(
    method: str, name: str, base_index: int | None, density: float | None = None, **parameters: Any
) -> dict[str, Any]:
    return {"method": method, "name": name, "base_index": base_index, "density": density, "parameters": parameters}


def ours(method: Method, base: Tensor, models: Sequence[Tensor], weights: Sequence[float], density: float) -> Tensor:
    inputs = Inputs("w", SHAPE, 5, lambda rows: (base[rows], [model[rows] for model in models]))
    combine = prepare(method, inputs, weights, [density] * len(models))
    return torch.cat([combine(*inputs.read(rows)) for rows in inputs.slices()])


def test_every_method_agrees_with_mergekit(oracle: Oracle) -> None:
    """One process for all cases: base and three models; near models as fine-tuning leaves them, and far ones."""
    cases, inputs, expected = [], {}, {}
    for scale in (0.02, 1.0):
        base = torch.randn(SHAPE)
        models = [base + scale * torch.randn(SHAPE) for _ in WEIGHTS]
        spread = {1: WEIGHTS[0], 2: WEIGHTS[1], 3: WEIGHTS[2]}

        def add(method: str, ours: Tensor, tensors: list[Tensor], base_index: int | None, **parameters: Any) -> None:
            name = f"case{len(cases)}"
            cases.append(case(method, name, base_index, **parameters))
            inputs.update({f"{name}.{index}": tensor.clone() for index, tensor in enumerate(tensors)})
            expected[name] = (method, ours)

        add("linear", ours("linear", models[0], models, WEIGHTS, 1), models, None, weight=WEIGHTS)
        add("linear", ours("linear", models[0], models, [1, 1, 1], 1), models, None, weight=[1, 1, 1])
        for t in (0.0, 0.3, 1.0):
            add("slerp", ours("slerp", base, [base, models[0]], [1 - t, t], 1), [base, models[0]], 0, t=t)
        everyone = [base, *models]
        add("task_arithmetic", ours("task_arithmetic", base, models, WEIGHTS, 1), everyone, 0, weight=spread)
        add("model_stock", ours("model_stock", base, models, [1, 1, 1], 1), everyone, 0)
        for density in (0.1, 0.37, 1.0):
            share = {index: density for index in spread}
            result = ours("ties", base, models, WEIGHTS, density)
            add("ties", result, everyone, 0, weight=spread, **{"density": None})
            cases[-1]["parameters"]["density"] = share
    results = oracle(cases, inputs)
    for name, (method, result) in expected.items():
        torch.testing.assert_close(
            result, results[name], rtol=1e-5, atol=1e-6, msg=lambda text, m=method: f"{m}: {text}"
        )


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
    cases = [{"method": method, "name": "w", "base_index": 0, "density": density, "parameters": parameters}]
    results = oracle(cases, {f"w.{index}": tensor for index, tensor in enumerate([base, *models])})
    masks = [results[f"w.mask.{index}"] for index in range(3)]
    assert 0.2 < float(masks[0].mean()) < 0.6 and not torch.equal(masks[0], masks[1])
    deltas = [drop_and_rescale(model - base, mask, density) for model, mask in zip(models, masks, strict=True)]
    combined = weighted_sum(deltas, WEIGHTS) if method == "dare_linear" else elect(deltas, WEIGHTS)[0]
    torch.testing.assert_close(base + combined, results["w"], rtol=1e-5, atol=1e-6)
