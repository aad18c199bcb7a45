"""A rank whose rows show nothing trains in step with the others, and its loss is that of its words alone."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train import text_only_process
from tests.train.text_only_process import CASES, CONTEXT, fresh_model, rows_of, train
from train.engine import start_processes

ROOT = Path(__file__).parents[2]
Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def launched(shared_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], list[Any]]:
    """What two processes kept of each case."""
    out = tmp_path_factory.mktemp("out")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    clean = {k: v for k, v in os.environ.items() if k not in {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"}}
    done = subprocess.run(
        [sys.executable, *torchrun, "-m", text_only_process.__name__, str(out), str(shared_run / "tokenizer/tiny")],
        env=clean | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {(zero, case): [torch.load(out / f"{zero}-{case}-{rank}.pt") for rank in range(2)] for zero, case in CASES}


@pytest.mark.parametrize(("zero", "case"), CASES)
def test_two_processes_train_as_one(
    launched: dict[tuple[int, str], list[Any]], shared_run: Path, zero: int, case: str
) -> None:
    """Sums in another order apart: losses and norms to 1e-5, weights to a ten-thousandth of the way they went."""
    tokenizer = shared_run / "tokenizer/tiny"
    alone = train(1, case, tokenizer, start_processes())
    begun = fresh_model(tokenizer)[0].state_dict()
    ours, theirs = launched[zero, case]
    assert ours["steps"] == theirs["steps"]
    for found, expected in zip(ours["steps"], alone["steps"], strict=True):
        assert found == pytest.approx(expected, rel=1e-5)
    assert all(torch.equal(ours["weights"][name], theirs["weights"][name]) for name in begun)
    assert distance(ours["weights"], alone["weights"]) < 1e-4 * distance(begun, alone["weights"])


def distance(weights: Weights, others: Weights) -> float:
    """L2 norm of the difference over all weights."""
    return math.sqrt(sum(float((weights[name] - others[name]).square().sum()) for name in weights))


def test_pictures_not_shown_change_no_bit(shared_run: Path) -> None:
    """The loss in training, with the blank picture that keeps ranks in step, and in evaluation, without."""
    model, processor = fresh_model(shared_run / "tokenizer/tiny")
    tensors = processor.pack(rows_of(processor, "all ranks", 0), CONTEXT)
    assert "pixel_values" not in tensors
    trained = model.train()(**tensors).loss
    with torch.no_grad():
        evaluated = model.eval()(**tensors).loss
    assert torch.equal(trained, evaluated)
    trained.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert name.startswith(("model.", "lm_head.")) or not parameter.grad.any(), name
