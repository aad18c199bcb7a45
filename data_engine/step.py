"""Content-addressed steps: resume, incremental runs, partial re-runs and provenance by one mechanism.

A step's folder is `steps/<name>-<hash>`, the hash taken over its config, the source of the modules it
runs and the hashes of its inputs. A finished step is published by one rename; work in progress is in
`steps/.<name>-<hash>`, where finished partitions are kept, so that a killed run continues.

A worker may outlive its driver, or come second to another attempt at its partition: what it still writes are the
same bytes under the same names, each whole, and what it writes after the publishing is never taken for work done.
"""

import hashlib
import json
import shutil
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from data_engine import code_version
from data_engine.media import INCOMING, write_atomic

Counts = dict[str, int]
UNFINISHED = "unfinished_run.json"  # the steps of a run that has not come to its end
_BEGUN = "_begun"


@dataclass(frozen=True, slots=True)
class StepResult:
    """A finished step: its folder, its hash and what it left in step.json."""

    name: str
    hash: str
    folder: Path
    record: dict[str, Any]
    reused: bool

    def table(self, name: str) -> Path:
        return self.folder / name


@dataclass(slots=True)
class Run:
    """The steps of one run in `out`, in the order they were finished."""

    out: Path
    announce: Callable[[StepResult], None] = lambda result: None
    done: dict[str, StepResult] = field(default_factory=dict)

    def step(
        self,
        name: str,
        *,
        config: Any,
        inputs: Sequence[StepResult | str],
        code: Sequence[str],
        build: Callable[[Path], Counts],
    ) -> StepResult:
        """Runs `build(folder)` unless the same work is already there. Returns the finished step.

        `code`: the modules whose code decides what the step leaves; what they import counts by itself.
        `build` fills the folder and returns its counts (`samples_in`, `samples_kept` or any others).
        """
        identity = {
            "name": name,
            "config": config,
            "inputs": [item if isinstance(item, str) else item.hash for item in inputs],
            "code": code_version.fingerprint(code),
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:12]
        folder = self.out / "steps" / f"{name}-{digest}"
        reused = (folder / "step.json").exists()
        if not reused:
            _build(folder, identity, build)
        record = json.loads((folder / "step.json").read_text())
        result = StepResult(name, digest, folder, record, reused)
        self.done[name] = result
        self._write_index()
        self.announce(result)
        return result

    def reopen(self) -> None:
        """Takes up the steps of the latest run in the folder, ended or not, as done."""
        index = next((file for name in (UNFINISHED, "run.json") if (file := self.out / name).exists()), None)
        steps: dict[str, str] = json.loads(index.read_bytes())["steps"] if index else {}
        for name, where in steps.items():
            folder = self.out / where
            record = json.loads((folder / "step.json").read_text())
            self.done[name] = StepResult(name, folder.name.removeprefix(f"{name}-"), folder, record, reused=True)

    def finish(self) -> None:
        """From now on run.json tells where the tables of this run are; until now it told of the run before."""
        (self.out / UNFINISHED).replace(self.out / "run.json")

    def _write_index(self) -> None:
        index = {name: str(result.folder.relative_to(self.out)) for name, result in self.done.items()}
        write_atomic(self.out / UNFINISHED, json.dumps({"steps": index}, indent=1).encode())


def _build(folder: Path, identity: dict[str, Any], build: Callable[[Path], Counts]) -> None:
    """Runs the work in the hidden twin of `folder`, measures it, and publishes it."""
    partial = _begin(folder)
    with CpuMeter() as meter:
        started = time.perf_counter()
        counts = build(partial)
        seconds = time.perf_counter() - started
    for file in partial.rglob(f"{INCOMING}*"):  # of workers that were killed
        file.unlink(missing_ok=True)
    size = sum(map(_size, partial.rglob("*")))
    kept = counts.get("samples_kept", 0)
    record = {
        **identity,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(meter.seconds, 2),
        "counts": counts,
        "bytes": size,
        "bytes_per_sample_kept": round(size / kept, 1) if kept else None,
    }
    write_atomic(partial / "step.json", json.dumps(record, indent=1, default=str).encode())
    partial.rename(folder)


def _begin(folder: Path) -> Path:
    """The hidden twin of `folder`. One that no step began was left by a worker that outlived its own: it is cleared."""
    partial = folder.with_name(f".{folder.name}")
    begun = partial / _BEGUN
    if not begun.exists():
        shutil.rmtree(partial, ignore_errors=True)
        begun.parent.mkdir(parents=True, exist_ok=True)
        begun.touch()
    return partial


def _size(path: Path) -> int:
    """Bytes of a file; 0 for a folder, and for what a second attempt at a partition has renamed meanwhile."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


class CpuMeter:
    """CPU-seconds of this process and all it started (Spark's JVM, Ray's workers), sampled every 0.5 s.

    A process that ends between two samples is counted up to its last one.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._before: dict[int, float] = {}
        self._latest: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "CpuMeter":
        self._before = _cpu_by_process()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self._latest.update(_cpu_by_process())
        self.seconds = sum(used - self._before.get(pid, 0.0) for pid, used in self._latest.items())

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self._latest.update(_cpu_by_process())


def _cpu_by_process() -> dict[int, float]:
    root = psutil.Process()
    usage: dict[int, float] = {}
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        usage[process.pid] = times.user + times.system
    return usage
