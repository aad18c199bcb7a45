import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from train import record
from train.checkpoint import checkpoints
from train.engine import fingerprint
from train.run import train
from train.stages import Stage, StageError, lineage_of
from train.start import load_model

Make = Callable[..., Stage]
ROOT = Path(__file__).parents[2]

KILLED = """
import os, signal, sys
from pathlib import Path
from train import record
from train.run import train
from train.stages import load_stage
write = record.Metrics.write
def die(self, row):
    write(self, row)
    if row["step"] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
record.Metrics.write = die
train(load_stage(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def start(arguments: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(ROOT)}
    clean = {k: v for k, v in os.environ.items() if k not in {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"}}
    return subprocess.run(
        [sys.executable, *arguments],
        env=clean | threads,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def write_recipe(stage: Stage, folder: Path) -> Path:
    path = folder / f"{stage.stage}.yaml"
    path.write_text(yaml.safe_dump(stage.model_dump(mode="json", by_alias=True, exclude_none=True)))
    return path


def losses(run: Path, stage: str = "stage2") -> list[float]:
    return [row["loss"] for row in record.read_rows(run / "train" / stage / "metrics.jsonl")]


def twin(run_folder: Path, name: str) -> Path:
    """A second run folder over the same data."""
    other = run_folder / name
    other.mkdir()
    for part in ("shards", "tokenizer"):
        (other / part).symlink_to(run_folder / part)
    return other


@pytest.mark.parametrize("workers", [1])
def test_a_killed_run_continues_bit_for_bit(run_folder: Path, make_stage: Make, workers: int) -> None:
    stage = make_stage(steps=7, checkpoint={"every": 3}, data={"workers": workers})
    whole = twin(run_folder, "whole")
    train(stage, whole)

    done = start(["-c", KILLED, str(write_recipe(stage, run_folder)), str(run_folder)])
    assert done.returncode == -9, done.stderr
    assert len(losses(run_folder)) == 5
    assert [path.name for path in checkpoints(run_folder / "train" / "stage2")] == ["step-0000003"]
    summary = train(stage, run_folder)

    assert losses(run_folder) == losses(whole)
    assert summary["steps"] == 7
    weights = [lineage_of(checkpoints(run / "train" / "stage2")[-1] / "model").weights for run in (whole, run_folder)]
    assert weights[0] == weights[1]


def test_a_half_written_checkpoint_does_not_count(run_folder: Path, make_stage: Make) -> None:
    stage = make_stage(steps=3, checkpoint={"every": 1, "keep": 2})
    train(stage, run_folder)
    folder = run_folder / "train" / "stage2"
    assert [path.name for path in checkpoints(folder)] == ["step-0000002", "step-0000003"]
    (folder / "summary.json").unlink()
    last = checkpoints(folder)[-1]
    last.rename(last.with_name(f".{last.name}"))  # as if killed before it was published
    expected = losses(run_folder)
    train(stage, run_folder)
    assert losses(run_folder) == expected
    assert [path.name for path in checkpoints(folder)] == ["step-0000002", "step-0000003"]
    assert not list((folder / "checkpoints").glob(".*"))


def test_the_ladder_trains_only_what_each_stage_says(run_folder: Path, make_stage: Make) -> None:
    warmup = make_stage(stage="warmup", trainable=["language"], data={"workers": 0, "mixture": {"text": 1.0}}, steps=2)
    first = train(warmup, run_folder)
    assert first["frozen_unchanged"] is True
    assert first["heldout_loss_shuffled_images"] is None
    before = load_model(checkpoints(run_folder / "train" / "warmup")[-1] / "model").state_dict()

    images = {"workers": 0, "mixture": {"image": 1.0}, "corpora": ["squares"], "ledger": True}
    stage1 = make_stage(stage="stage1", init={"from": "train/warmup"}, trainable=["projector"], data=images, steps=2)
    summary = train(stage1, run_folder)
    last = checkpoints(run_folder / "train" / "stage1")[-1] / "model"
    after = load_model(last).state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("mlp_AR.") for name in changed)
    assert summary["heldout_tasks"].keys() == {"vqa"}
    assert lineage_of(last).trained == ("projector", "language")
    assert lineage_of(last).weights == fingerprint(load_model(last))

    rows = record.read_rows(run_folder / "train" / "stage1" / "metrics.jsonl")
    assert summary["tokens"] == sum(row["tokens"] for row in rows)
    assert summary["packing_efficiency"] == pytest.approx(summary["tokens"] / (2 * 512))
    assert summary["loss_first"] == rows[0]["loss"]
    assert summary["ledger"]["places"] == summary["samples"]
    assert summary["ledger"]["exactly_once"]
    assert summary["loss_last"] == rows[-1]["loss"]


def test_it_learns_and_it_looks(run_folder: Path, make_stage: Make) -> None:
    """Four colours, one question: with the right picture the answer is certain, with another's it is not."""
    images = {"workers": 1, "mixture": {"image": 1.0}}
    stage = make_stage(
        data=images, batch_tokens=256, steps=60, optimizer={"lr": 2e-3, "warmup_steps": 5}, heldout={"samples": 24}
    )
    summary = train(stage, run_folder)
    assert summary["loss_last"] < 0.5 * summary["loss_first"]
    assert summary["heldout_loss"] + 0.5 < summary["heldout_loss_shuffled_images"]
    assert summary["images_gap_stderr"] < 0.5


def test_a_finished_stage_is_left_alone_and_another_recipe_is_refused(run_folder: Path, make_stage: Make) -> None:
    stage = make_stage(steps=1)
    summary = train(stage, run_folder)
    path = run_folder / "train" / "stage2" / "summary.json"
    written = path.stat().st_mtime_ns
    assert train(stage, run_folder) == summary
    assert path.stat().st_mtime_ns == written
    with pytest.raises(StageError, match="begun with other seed; --fresh"):
        train(make_stage(steps=1, seed=5), run_folder)
    assert train(make_stage(steps=1, seed=5), run_folder, fresh=True)["loss_first"] != summary["loss_first"]


def test_a_missing_checkpoint_says_which_stage_to_run(run_folder: Path, make_stage: Make) -> None:
    with pytest.raises(StageError, match="train/warmup: neither a model folder nor a trained stage"):
        train(make_stage(init={"from": "train/warmup"}), run_folder)


TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]


def deepspeed() -> list[str]:
    """The deepspeed launcher; it passes --local_rank to what it starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    return ["deepspeed.launcher.runner", "--num_gpus", "2", "--master_port", port, "--module"]


@pytest.mark.parametrize(("zero", "launcher"), [(2, deepspeed), (3, lambda: TORCHRUN)], ids=["zero2", "zero3"])
def test_two_processes_train_as_one(
    run_folder: Path, make_stage: Make, zero: int, launcher: Callable[[], list[str]]
) -> None:
    """Same global batches: same losses, though one process has pictures in a batch where the other has none."""
    stage = make_stage(context=128, batch_tokens=256, steps=6, checkpoint={"every": 3})
    alone = twin(run_folder, "alone")
    train(stage, alone)
    recipe = write_recipe(stage.model_copy(update={"zero": zero}), run_folder)
    done = start(["-m", *launcher(), "train.cli", "stage2", str(recipe), "--data", str(run_folder)])
    assert done.returncode == 0, done.stderr
    assert losses(run_folder) == pytest.approx(losses(alone), rel=2e-4)
    ours, theirs = (json.loads((run / "train/stage2/summary.json").read_text()) for run in (run_folder, alone))
    assert ours["heldout_loss"] == pytest.approx(theirs["heldout_loss"], rel=1e-3)
    for key in ("tokens", "samples", "targets", "parameters"):
        assert ours[key] == theirs[key]
