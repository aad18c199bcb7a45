"""Runs partitions one after the other in this process: the reference, and what a debugger wants."""

from collections.abc import Sequence
from pathlib import Path

from data_engine.runners.needs import Needs
from data_engine.runners.partition import Blame, Work, run_partition


def run(work: Work, parts: Sequence[Path], out: Path, _needs: Needs, _blame: Blame | None) -> None:
    for part in parts:
        run_partition(work, part, out)


def width(_needs: Needs) -> int:
    return 1
