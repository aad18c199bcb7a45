"""What a sample costs: FLOPs that torch counts, and a fit that finds what is planted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.cost import sample_flops
from model.modeling import KeyeForConditionalGeneration, config_of
from train.feed import cost


@pytest.mark.parametrize(("length", "grids"), [(40, []), (90, [(4, 6)]), (200, [(8, 8), (4, 10), (2, 2)])])
def test_terms_sum_to_the_models_arithmetic(length: int, grids: list[tuple[int, int]]) -> None:
    config = config_of("8b")
    patches = np.array([rows * columns for rows, columns in grids])
    found = cost.terms(config, [length], [patches.sum() // 4], [(patches**2).sum()])
    assert found.sum() == pytest.approx(sample_flops(config, length, grids), rel=1e-12)


def test_linear_terms_are_what_torch_counts() -> None:
    """Of one image through tower and projector, with its attention or, where torch does not count that, without."""
    config = config_of("tiny", image_token_id=5, video_token_id=6)
    model = KeyeForConditionalGeneration(config).eval()
    rows, columns = 8, 12
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.visual_features(torch.rand(rows * columns, 3, 14, 14), torch.tensor([[1, rows, columns]]))
    vision, attention, projector, *_ = cost.terms(config, [0], [rows * columns // 4], [(rows * columns) ** 2])[0]
    counted = counter.get_total_flops()
    whole = vision + projector, vision + attention + projector
    assert any(counted == pytest.approx(flops, rel=0.01) for flops in whole)


def planted(steps: int, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    found = random.lognormal(20, 1, (steps, len(cost.TERMS)))
    true = np.array([3e-12, 2e-12, 0.0, 5e-12, 1e-12])
    seconds = (found @ true + 0.004) * random.normal(1, noise, steps)
    return found, seconds, true


def test_a_fit_finds_what_is_planted(tmp_path: Path) -> None:
    found, seconds, true = planted(64, 0.0)
    model = cost.fit(found, 1, seconds, "planted")
    assert np.allclose(model.seconds_per_flop, true, rtol=1e-6, atol=1e-16)
    assert model.per_row == pytest.approx(0.004, rel=1e-6)
    assert model.r2 > 1 - 1e-9
    assert np.allclose(model.seconds(found), seconds - 0.004)
    model.save(tmp_path / "cost.json")
    assert cost.CostModel.load(tmp_path / "cost.json") == model


def test_its_errors_are_those_of_steps_it_has_not_seen() -> None:
    found, seconds, _ = planted(400, 0.05)
    model = cost.fit(found, 1, seconds, "planted")
    assert 0.02 < model.median_error < 0.05
    assert 0.07 < model.p95_error < 0.15
    assert min(model.seconds_per_flop) >= 0


def test_wrong_cost_models_say_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="11 measured steps are too few"):
        cost.fit(np.ones((11, 5)), 1, np.ones(11), "none")
    (tmp_path / "cost.json").write_text("{}")
    with pytest.raises(ValueError, match=r"cost.json: not a cost model .*keyeforge train cost"):
        cost.CostModel.load(tmp_path / "cost.json")
