"""Merge methods by their properties, by brute force, and chunk by chunk against the whole."""

import math
from collections.abc import Sequence
from itertools import permutations

import pytest
import torch
from torch import Tensor

from model.fusion.methods import METHODS, Inputs, Method, bernoulli, prepare, slerp_coefficients, thresholds

SHAPE = (37, 11)


def inputs_of(base: Tensor, models: Sequence[Tensor], chunk_rows: int = 1000, name: str = "w") -> Inputs:
    return Inputs(name, tuple(base.shape), chunk_rows, lambda rows: (base[rows], [model[rows] for model in models]))


def merged(
    method: Method,
    base: Tensor,
    models: Sequence[Tensor],
    weights: Sequence[float],
    density: float = 1.0,
    chunk_rows: int = 1000,
    seed: int = 0,
    name: str = "w",
) -> Tensor:
    inputs = inputs_of(base, models, chunk_rows, name)
    combine = prepare(method, inputs, weights, [density] * len(models), seed)
    return torch.cat([combine(*inputs.read(rows)) for rows in inputs.slices()])


def some(count: int, scale: float = 1.0) -> tuple[Tensor, list[Tensor]]:
    base = torch.randn(SHAPE)
    return base, [base + scale * torch.randn(SHAPE) for _ in range(count)]


@pytest.mark.parametrize("method", METHODS)
def test_chunks_make_no_difference(method: Method) -> None:
    base, models = some(2)
    whole = merged(method, base, models, [0.7, 0.4], density=0.3)
    for chunk_rows in (1, 2, 5, 36, 37):
        assert torch.equal(merged(method, base, models, [0.7, 0.4], 0.3, chunk_rows), whole)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_merged_with_itself_is_itself(method: Method) -> None:
    base = torch.randn(SHAPE)
    model = base + torch.randn(SHAPE)
    result = merged(method, base, [model, model], [0.5, 0.5], density=1.0)
    torch.testing.assert_close(result, model)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_models_does_not_matter(method: Method) -> None:
    count = 2 if method == "slerp" else 3
    base, models = some(count)
    weights = [0.2, 0.5, 0.9][:count]
    # DARE's masks belong to places, so its order is tried where nothing is dropped
    density = 0.4 if method == "ties" else 1.0
    first = merged(method, base, models, weights, density)
    for order in permutations(range(count)):
        again = merged(method, base, [models[i] for i in order], [weights[i] for i in order], density)
        torch.testing.assert_close(again, first)


@pytest.mark.parametrize("method", [one for one in METHODS if one not in ("linear", "slerp", "model_stock")])
def test_the_base_and_a_whole_task_vector_are_the_expert(method: Method) -> None:
    base, (expert,) = some(1)
    torch.testing.assert_close(merged(method, base, [expert], [1.0]), expert)


@pytest.mark.parametrize("method", METHODS)
def test_models_that_did_not_move_give_the_base(method: Method) -> None:
    base = torch.randn(SHAPE)
    result = merged(method, base, [base, base], [0.5, 0.5], density=0.5)
    torch.testing.assert_close(result, base)


def test_linear_is_the_weighted_mean() -> None:
    base, models = some(3)
    expected = (models[0] * 1 + models[1] * 2 + models[2] * 5) / 8
    torch.testing.assert_close(merged("linear", base, models, [1, 2, 5]), expected)


def test_slerp_ends_where_its_models_are() -> None:
    base, models = some(2)
    assert torch.equal(merged("slerp", base, models, [1.0, 0.0]), models[0])
    assert torch.equal(merged("slerp", base, models, [0.0, 1.0]), models[1])


@pytest.mark.parametrize("t", [0.1, 0.5, 0.8])
def test_slerp_goes_along_the_circle(t: float) -> None:
    """Of two vectors of one length: the length stays, and the angle to the first is t of the whole."""
    a, b = torch.randn(50).double(), torch.randn(50).double()
    b = b / b.norm() * a.norm()
    angle = math.acos(float(a @ b / a.norm() ** 2))
    one, two = slerp_coefficients(math.cos(angle), t)
    result = one * a + two * b
    assert float(result.norm() / a.norm()) == pytest.approx(1, abs=1e-6)
    assert math.acos(float(result @ a / a.norm() ** 2)) == pytest.approx(t * angle, abs=1e-6)


@pytest.mark.parametrize("cosine", [1.0, -1.0, 0.9999, -0.9999])
def test_slerp_of_collinear_models_is_a_straight_line(cosine: float) -> None:
    assert slerp_coefficients(cosine, 0.25) == (0.75, 0.25)


@pytest.mark.parametrize("density", [1e-9, 0.013, 0.2, 0.5, 0.999, 1.0])
def test_the_threshold_is_the_kth_magnitude(density: float) -> None:
    base, models = some(2)
    numel = base.numel()
    rank = max(1, int(density * numel))
    for model, found in zip(models, thresholds(inputs_of(base, models, 4), [density] * 2), strict=True):
        exact = (model - base).abs().flatten().sort(descending=True).values
        assert found == (0.0 if density == 1 else float(exact[rank - 1]))
        assert int(((model - base).abs() >= found).sum()) == rank


def test_the_threshold_where_many_are_equal() -> None:
    """Deltas of bfloat16 models: few different magnitudes. Equal ones stay together."""
    base = torch.zeros(10, 10)
    model = torch.cat([torch.full((3, 10), 2.0), torch.full((5, 10), -1.0), torch.zeros(2, 10)])
    assert thresholds(inputs_of(base, [model]), [0.1]) == [2.0]
    assert thresholds(inputs_of(base, [model]), [0.4]) == [1.0]
    assert thresholds(inputs_of(base, [model]), [0.9]) == [0.0]


def ties_by_hand(base: Tensor, models: list[Tensor], weights: list[float], density: float) -> Tensor:
    """Value by value, in Python."""
    rank = max(1, int(density * base.numel()))
    trimmed = []
    for model in models:
        delta = (model - base).flatten().tolist()
        least = sorted(map(abs, delta), reverse=True)[rank - 1]
        trimmed.append([value if abs(value) >= least else 0.0 for value in delta])
    result = []
    for values in zip(*trimmed, strict=True):
        sign = 1 if sum(w * v for w, v in zip(weights, values, strict=True)) >= 0 else -1
        agreeing = [(w, v) for w, v in zip(weights, values, strict=True) if w * v * sign > 0]
        divisor = sum(w for w, _ in agreeing)
        result.append(sum(w * v for w, v in agreeing) / divisor if agreeing else 0.0)
    return base + torch.tensor(result).reshape(base.shape)


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_ties_is_what_the_paper_says(density: float) -> None:
    base, models = some(3)
    weights = [0.3, 1.0, 0.6]
    expected = ties_by_hand(base, models, weights, density)
    torch.testing.assert_close(merged("ties", base, models, weights, density), expected)


def test_ties_without_conflict_is_the_weighted_mean() -> None:
    base = torch.randn(SHAPE)
    sign = torch.randn(SHAPE).sign()
    models = [base + sign * (torch.rand(SHAPE) + 0.1) for _ in range(3)]
    expected = merged("linear", base, models, [1, 2, 3])
    torch.testing.assert_close(merged("ties", base, models, [1, 2, 3]), expected)


def test_ties_with_opposite_models_of_equal_strength_keeps_plus() -> None:
    base = torch.zeros(4)
    up = torch.tensor([1.0, -1.0, 2.0, -2.0])
    torch.testing.assert_close(merged("ties", base, [up, -up], [1, 1]), up.abs())


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_drops_or_rescales_each_value(method: Method) -> None:
    base, (expert,) = some(1)
    result = merged(method, base, [expert], [1.0], density=0.25)
    kept = result != base
    torch.testing.assert_close((result - base)[kept], 4 * (expert - base)[kept], rtol=1e-4, atol=1e-5)
    assert 0.15 < float(kept.float().mean()) < 0.35  # 407 draws: 4.6 standard deviations


def test_dare_is_task_arithmetic_on_average() -> None:
    base, models = some(2)
    weights, density, draws = [0.5, 0.8], 0.5, 400
    drawn = [merged("dare_linear", base, models, weights, density, seed=seed) for seed in range(draws)]
    mean = torch.stack(drawn).mean(dim=0)
    variances = [(w * (m - base)) ** 2 * (1 - density) / density for w, m in zip(weights, models, strict=True)]
    spread = torch.stack(variances).sum(dim=0)
    z = (mean - merged("task_arithmetic", base, models, weights)) / (spread / draws).sqrt()
    assert float(z.abs().max()) < 5 and 0.8 < float(z.std()) < 1.2


def test_masks_depend_on_seed_tensor_and_model_alone() -> None:
    shape = torch.Size((64, 64))
    first = bernoulli("w", 0, 0.5, 0)(shape)
    assert torch.equal(bernoulli("w", 0, 0.5, 0)(shape), first)
    others = [bernoulli("v", 0, 0.5, 0), bernoulli("w", 1, 0.5, 0), bernoulli("w", 0, 0.5, 1)]
    for draw in others:
        assert 0.45 < float((draw(shape) == first).float().mean()) < 0.55


@pytest.mark.parametrize("cosine", [-0.5, 0.0, 0.3, 0.9])
def test_model_stock_lies_where_the_angle_puts_it(cosine: float) -> None:
    """Two task vectors of a known angle: t = 2 c / (1 + c)."""
    base = torch.randn(2)
    along = torch.tensor([1.0, 0.0])
    tilted = torch.tensor([cosine, math.sqrt(1 - cosine**2)])
    t = 2 * cosine / (1 + cosine)
    expected = base + t * (along + tilted) / 2
    torch.testing.assert_close(merged("model_stock", base, [base + along, base + tilted], [1, 1]), expected)


def test_model_stock_keeps_the_base_where_models_cancel_out() -> None:
    base = torch.tensor([1.0, 2.0])
    offset = torch.tensor([0.5, 0.25])
    assert torch.equal(merged("model_stock", base, [base + offset, base - offset], [1, 1]), base)
