"""The sweep on planted truths: a hidden optimum, and items that are pure luck."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from model.fusion.sweep import Candidate, SweepError, expert_grid, half_of, sweep, sweep_table
from tests.model.fusion.folders import read, write

ITEMS = [f"item-{index}" for index in range(200)]
GOAL = 0.6


@pytest.fixture
def grid(tmp_path: Path) -> list[Candidate]:
    """Experts that went 1 and 3 steps in one direction from a base of ones."""
    base = write(tmp_path / "base", {"w": torch.ones(4)})
    experts = [(f"{n} steps", n, write(tmp_path / f"expert{n}", {"w": torch.ones(4) + n})) for n in (1, 3)]
    return expert_grid(base, experts, [0.0, 0.2, 0.6, 1.0])


def quality(folder: Path) -> float:
    """Best where the merged model is GOAL from the base; rises before and falls after."""
    return 1 - abs(float(read(folder)["w"][0]) - 1 - GOAL)


def scores(folder: Path) -> Mapping[str, float]:
    return {item: quality(folder) for item in ITEMS}


def test_the_planted_weight_is_found(tmp_path: Path, grid: list[Candidate]) -> None:
    found = sweep(grid, scores, tmp_path / "out")
    assert [(row.steps, row.weight) for row in found.rows] == [(n, w) for n in (1, 3) for w in (0, 0.2, 0.6, 1)]
    assert (found.best.steps, found.best.weight) == (1, 0.6)  # 3 steps x 0.2 is the same model, and later
    assert found.best.choose == pytest.approx(1) and found.gap == pytest.approx(0) and found.best.stderr < 1e-6
    assert [row.divergence for row in found.rows] == pytest.approx([1] * 4 + [3] * 4)
    assert float(read(tmp_path / "out/best")["w"][0]) == pytest.approx(1 + GOAL)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["best", "sweep.json"]
    written = json.loads((tmp_path / "out/sweep.json").read_text())
    assert written["best"]["label"] == found.best.label and len(written["rows"]) == 8
    assert list(sweep_table(found).columns[0].cells).count("*") == 1


def test_quality_rises_and_falls_with_the_experts_way(tmp_path: Path, grid: list[Candidate]) -> None:
    rows = sweep(grid, scores, tmp_path / "out", keep_best=False).rows
    assert rows[4].report < rows[5].report > rows[6].report > rows[7].report
    assert not (tmp_path / "out/best").exists()


def test_one_half_chooses_and_the_other_reports(tmp_path: Path, grid: list[Candidate]) -> None:
    """Items for reporting say the opposite: they must not be heard, and the gap must show."""

    def two_faced(folder: Path) -> dict[str, float]:
        return {item: quality(folder) * (1 if half_of(item) == "choose" else -1) for item in ITEMS}

    found = sweep(grid, two_faced, tmp_path / "out")
    assert found.best.weight == 0.6 and found.best.report == pytest.approx(-1) and found.gap == pytest.approx(2)
    assert found.num_choose == sum(half_of(item) == "choose" for item in ITEMS) and found.num_report > 60


def test_luck_is_seen_as_luck(tmp_path: Path) -> None:
    """Candidates that are all the same: the chosen one looks better where it was chosen than where it was not."""
    base = write(tmp_path / "base", {"w": torch.ones(4)})
    candidates = expert_grid(base, [("same", 0, base)], [float(weight) for weight in range(30)])
    generator = torch.Generator().manual_seed(5)

    def luck(folder: Path) -> dict[str, float]:
        return {item: float(torch.rand((), generator=generator) < 0.5) for item in ITEMS}

    found = sweep(candidates, luck, tmp_path / "out")
    assert found.best.choose > 0.56  # the largest of 30 means of about 100 coins: 0.6
    assert abs(found.best.report - 0.5) < 4 * found.best.stderr
    assert found.gap > 0.02


def test_the_standard_error_is_that_of_the_mean(tmp_path: Path, grid: list[Candidate]) -> None:
    reported = [item for item in ITEMS if half_of(item) == "report"]
    coins = {item: float(index % 2) for index, item in enumerate(reported)}
    found = sweep(grid[:1], lambda _: {item: coins.get(item, 1.0) for item in ITEMS}, tmp_path / "out")
    values = torch.tensor(list(coins.values()), dtype=torch.float64)
    assert found.best.report == pytest.approx(float(values.mean()))
    assert found.best.stderr == pytest.approx(float(values.std()) / len(values) ** 0.5)


def test_what_cannot_be_judged_is_refused(tmp_path: Path, grid: list[Candidate]) -> None:
    with pytest.raises(SweepError, match="there are none"):
        sweep([], scores, tmp_path / "none")
    with pytest.raises(SweepError, match="items to"):
        sweep(grid, lambda _: {"one": 1.0}, tmp_path / "few")
    with pytest.raises(SweepError, match="not a finite number"):
        sweep(grid, lambda _: dict.fromkeys(ITEMS, float("nan")), tmp_path / "nan")
    rounds = iter((ITEMS, ITEMS[1:]))
    with pytest.raises(SweepError, match=r"e\.g\. item-0"):
        sweep(grid, lambda _: dict.fromkeys(next(rounds), 1.0), tmp_path / "items")
    assert not (tmp_path / "items/sweep.json").exists()
    with pytest.raises(SweepError, match="not empty"):
        sweep(grid, scores, tmp_path / "items")
