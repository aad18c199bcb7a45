"""Runs partitions one after the other in this process: the reference, and what a debugger wants."""

from collections.abc import Sequence
from pathlib import Path

from data_engine.runners.partition import Work, run_partition


def run(work: Work, parts: Sequence[Path], out: Path) -> None:
    for part in parts:
        run_partition(work, part, out)
