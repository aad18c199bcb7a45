"""Checkpoints on disk: each appears whole or not at all, and the last whole one outlives whatever kills a run.

A checkpoint is written as `.step-0000200`, synced, and renamed to `step-0000200`; one that goes is renamed back first.
So whatever begins with a dot is a half one that a killed run left, and none else is.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints of a stage's folder, the latest last."""
    return sorted((folder / "checkpoints").glob("step-*"))


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What the run noted beside the weights: step, stream, checksums of what is frozen."""
    state: dict[str, Any] = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    return state


def partial_of(checkpoint: Path) -> Path:
    """Where a checkpoint is while it is written or deleted."""
    return checkpoint.with_name(f".{checkpoint.name}")


def publish(checkpoint: Path) -> None:
    """Makes the checkpoint of what lies at `partial_of(checkpoint)`, in synced files."""
    partial = partial_of(checkpoint)
    sync(path for path in partial.rglob("*") if path.is_dir())
    sync([partial])
    partial.rename(checkpoint)
    sync([checkpoint.parent, checkpoint.parent.parent])


def sync(paths: Iterable[Path]) -> None:
    """Waits until files, or entries of folders, are on the disk."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def keep_latest(folder: Path, keep: int) -> None:
    """Deletes all but the `keep` latest checkpoints."""
    for path in checkpoints(folder)[:-keep]:
        path.rename(partial_of(path))
    sync([folder / "checkpoints"])
    discard_partial(folder)


def discard_partial(folder: Path) -> None:
    """Deletes half checkpoints: those on their way out, or left by a killed run."""
    for path in (folder / "checkpoints").glob(".step-*"):
        shutil.rmtree(path)
