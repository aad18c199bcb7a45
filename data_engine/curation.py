"""What the steps of a curation run share: the recipe, the run folder, and how partitions are run."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from data_engine import tables
from data_engine.media import store_of
from data_engine.recipe import Recipe
from data_engine.runners import partition
from data_engine.runners.needs import MEDIA, Needs
from data_engine.runners.partition import Blame, RunnerName, Work
from data_engine.step import Counts, Run

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Curation:
    """One run: the recipe, where it writes, which runner it was told to use, and whom to tell."""

    recipe: Recipe
    run: Run
    runner: RunnerName | None = None
    progress: Progress = lambda name, done, total: None

    @property
    def store(self) -> Path:
        return store_of(self.run.out)

    def partitions(
        self,
        name: str,
        work: Work,
        table: pa.Table,
        size: int,
        folder: Path,
        usual: RunnerName,
        needs: Needs = MEDIA,
        blame: Blame | None = None,
    ) -> None:
        """Cuts `table` into partitions and runs `work` over them on the usual runner, unless told otherwise.

        `needs`: what one worker takes, models above all. `blame`: what becomes of a row that no worker survives.
        """
        parts = tables.write_partitions(table, folder / "_in", size)
        runner = (self.runner or usual) if table.num_rows else "local"
        partition.run(runner, work, parts, folder, functools.partial(self.progress, name), needs, blame)

    def over_parts(
        self, name: str, work: Work, parts: Sequence[Path], folder: Path, usual: RunnerName, needs: Needs = MEDIA
    ) -> None:
        """Runs `work` once for each part of a table. It gets the part's name, to read that part and its siblings;
        what it returns is part for part and in the same order."""
        units = pa.table({"part": pa.array([part.name for part in parts], pa.string())})
        self.partitions(name, work, units, 1, folder, usual, needs)


def row_counts(folder: Path, *names: str) -> Counts:
    """Rows of each of a step's tables; those of the first are the samples it keeps."""
    counted = {name: tables.count(folder / name) for name in names}
    return {**counted, "samples_kept": counted[names[0]]}
