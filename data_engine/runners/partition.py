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

Work = Callable[[pa.Table], Mapping[str, pa.Table]]
RunnerName = Literal["local", "spark", "ray"]


def run_partition(work: Work, part: Path, out: Path) -> None:
    """Applies `work` to one part and writes each table it returns as `out/<table>/<part>`.

    A marker in `out/_done` makes it safe to call again: a finished partition is not repeated. Nor does a second
    attempt (speculative, or of a worker that was thought dead) write again what the first has finished meanwhile.
    """
    marker = out / "_done" / part.name
    if marker.exists():
        return
    done = work(pq.read_table(part))
    if marker.exists():
        return
    for name, table in done.items():
        tables.write(table, out / name / part.name)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()


def run(
    runner: RunnerName, work: Work, parts: Sequence[Path], out: Path, on_progress: Callable[[int, int], None]
) -> None:
    """Runs all partitions on the named runner; `on_progress(done, total)` is called as they finish."""
    chosen = importlib.import_module(f"data_engine.runners.{runner}")  # so that Spark and Ray load only if used
    with _watched(out, len(parts), on_progress):
        chosen.run(work, parts, out)


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
