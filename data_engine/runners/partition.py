"""What every runner calls, and nothing else: one partition in, its output tables on disk.

Only paths travel to the workers, so no bytes pass through a shuffle or an object store; each output is
written by the same code whoever runs it, so the outputs of all runners are equal byte for byte.
"""

import importlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from data_engine import tables
from data_engine.runners.needs import MEDIA, Needs

Work = Callable[[pa.Table], Mapping[str, pa.Table]]
# What becomes of rows that no worker survives, and why: the tables that the work would have returned.
Blame = Callable[[pa.Table, str], Mapping[str, pa.Table]]
RunnerName = Literal["local", "spark", "ray"]


class RunnerError(ValueError):
    """What a runner cannot do, in one line with the fix."""


def run_partition(work: Work, part: Path, out: Path) -> None:
    """Applies `work` to one part and writes each table it returns as `out/<table>/<part>`.

    A marker in `out/_done` makes it safe to call again: a finished partition is not repeated. Nor does a second
    attempt (speculative, or of a worker that was thought dead) write again what the first has finished meanwhile.
    """
    marker = out / "_done" / part.name
    if marker.exists():
        return
    done = work(pq.read_table(part))
    if not marker.exists():
        write(done, part, out)


def write(done: Mapping[str, pa.Table], part: Path, out: Path) -> None:
    """The tables of one part, and then the marker that says so."""
    for name, table in done.items():
        tables.write(table, out / name / part.name)
    marker = out / "_done" / part.name
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()


def run(
    runner: RunnerName,
    work: Work,
    parts: Sequence[Path],
    out: Path,
    on_progress: Callable[[int, int], None],
    needs: Needs = MEDIA,
    blame: Blame | None = None,
) -> None:
    """Runs all partitions on the named runner; `on_progress(done, total)` is called as they finish.

    A row that ends every worker (Ray alone survives that) goes to `blame`. Raises RunnerError where there is none, and
    where a cluster has no room for a worker with these needs.
    """
    chosen = importlib.import_module(f"data_engine.runners.{runner}")  # so that Spark and Ray load only if used
    with _watched(out, len(parts), on_progress):
        chosen.run(work, parts, out, needs, blame)


def width(runner: RunnerName, needs: Needs = MEDIA) -> int:
    """How many processes at most are at work at once: what rates are shared by."""
    chosen = importlib.import_module(f"data_engine.runners.{runner}")
    processes: int = chosen.width(needs)
    return processes


@contextmanager
def _watched(out: Path, total: int, on_progress: Callable[[int, int], None]) -> Iterator[None]:
    """Reports finished partitions by counting their markers: the same for every runner."""
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(0.3):
            on_progress(len(list((out / "_done").glob("*"))), total)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()
    on_progress(total, total)
