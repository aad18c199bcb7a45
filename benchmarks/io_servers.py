"""Encoded batches of real media by I/O servers, by Ray actors, and by torch's DataLoader with the same work.

    python benchmarks/io_servers.py [--batches 24] [--rounds 3] [--without-ray]

A batch is one row of 4,096 tokens: stills of 1280 x 720, clips of 16 frames, and words, read from shards, decoded,
resized, cut into patches and packed. All sides run in turn in each round; of each figure the best round is told, as
neighbours on the machine only take away.

- batches/s: with nothing else to do, after the first batch; CPU: seconds a batch of the whole tree of processes
- waits: the share of a step in which the trainer waits for its batch, where the step itself (an accelerator at work,
  so a sleep here) takes as long as one process needs for a batch, and half as long
- start: seconds until the first batch
- killed: seconds from the SIGKILL of a server until another has taken up its batch
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import psutil
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import measuring
from benchmarks.measuring.served import Loaded, Shot, plan, write_run
from data_engine import machine
from data_engine.stream.io_server import serve
from train.feed.batches import Batch, Maker, Planned

Batches = Iterator[Batch]
Side = Callable[[Maker, list[Planned]], Batches]
KINDS: tuple[Literal["process", "ray"], ...] = ("process", "ray")


def served(maker: Maker, planned: list[Planned], servers: int, kind: Literal["process", "ray"]) -> Batches:
    return serve(maker, cycle(planned), servers=servers, kind=kind)


def loaded(maker: Maker, planned: list[Planned], workers: int) -> Batches:
    """As many batches ahead as I/O servers have; forked, as is torch's habit on Linux."""
    ahead = {"prefetch_factor": 2} if workers else {}
    loader = DataLoader(Loaded(maker, planned), batch_size=None, num_workers=workers, **ahead)  # type: ignore[arg-type]
    return iter(loader)


def sides(*, with_ray: bool) -> dict[str, Side]:
    kinds = KINDS if with_ray else KINDS[:1]
    found: dict[str, Side] = {"no server": partial(served, servers=0, kind="process")}
    found |= {f"{number} {kind}": partial(served, servers=number, kind=kind) for kind in kinds for number in (1, 2)}
    return found | {f"DataLoader, {number}": partial(loaded, workers=number) for number in (0, 1, 2)}


def cpu_of_all() -> dict[int, float]:
    """CPU-seconds of this process and of each below it, by number."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return {process.pid: sum(process.cpu_times()[:2]) for process in processes if process.is_running()}


def measure(side: Side, maker: Maker, planned: list[Planned], batches: int, step: float) -> dict[str, float]:
    """One side once, whose processes end with its batches; `step`: seconds in which one process makes a batch."""
    began = time.perf_counter()
    made = side(maker, planned)
    next(made)
    start = time.perf_counter() - began
    for _ in range(4):  # what was made ahead while the first was waited for
        next(made)
    before, began = cpu_of_all(), time.perf_counter()
    for _ in range(batches):
        next(made)
    seconds = time.perf_counter() - began
    spent = sum(now - before.get(process, 0.0) for process, now in cpu_of_all().items())
    waits = [waited(made, batches, accelerator) for accelerator in (step, step / 2)]
    return {
        "batches_per_second": batches / seconds,
        "cpu_seconds_per_batch": spent / batches,
        "waits_at_whole_step": waits[0],
        "waits_at_half_step": waits[1],
        "start_seconds": start,
    }


def waited(made: Batches, steps: int, step: float) -> float:
    """The share of time in which the trainer waits for its batch, once those made ahead are used up or there."""
    for _ in range(4):
        next(made)
        time.sleep(step)
    waiting = 0.0
    began = time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        next(made)
        waiting += time.perf_counter() - asked
        time.sleep(step)
    return waiting / (time.perf_counter() - began)


def killed(kind: Literal["process", "ray"], maker: Maker, planned: list[Planned], folder: Path) -> float:
    """Seconds from the end of a server to when its successor takes up the batch it was at."""
    shot = Shot(maker, planned, 12, folder / f"{kind}-{time.monotonic_ns()}")
    results = serve(shot, iter(range(24)), servers=2, kind=kind)
    assert len(list(results)) == 24
    ended, taken_up = map(float, shot.mark.read_text().split())
    return taken_up - ended


def killed_worker(maker: Maker, planned: list[Planned], folder: Path) -> str:
    """What DataLoader does when one of its workers is killed."""
    shot = Shot(maker, planned, 6, folder / "worker")
    loader: Any = DataLoader(range(10), batch_size=None, num_workers=2, collate_fn=shot)  # type: ignore[arg-type]
    try:
        return f"made {len(list(loader))} batches"
    except RuntimeError as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


def best(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The highest speed, the lowest of all else."""
    return {key: (max if key == "batches_per_second" else min)(one[key] for one in rounds) for key in rounds[0]}


def tell(rows: dict[str, dict[str, float]]) -> None:
    print(f"{'side':<16} {'batches/s':>9} {'CPU-s':>6} {'waits':>6} {'at half':>8} {'start s':>8}")
    for name, row in rows.items():
        speed, cpu, whole, half, start = row.values()
        print(f"{name:<16} {speed:>9.2f} {cpu:>6.2f} {whole:>6.0%} {half:>8.0%} {start:>8.2f}")


def main() -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-ray", action="store_true")
    options = parser.parse_args()
    machine.prepare()
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch)
        write_run(run)
        maker, planned = plan(run, 16)
        step = statistics.fmean(min(timed(maker, one) for _ in range(3)) for one in planned)
        mebibytes = statistics.fmean(sum(x.nbytes for x in maker(one).tensors.values()) for one in planned) / 2**20
        print(f"a batch: {step:.3f} s in one process, {mebibytes:.0f} MiB of tensors", flush=True)
        chosen = sides(with_ray=not options.without_ray)
        rounds = [
            {name: measure(side, maker, planned, options.batches, step) for name, side in chosen.items()}
            for _ in range(options.rounds)
        ]
        rows = {name: best([one[name] for one in rounds]) for name in chosen}
        tell(rows)
        kinds = KINDS[:1] if options.without_ray else KINDS
        lost = {kind: statistics.median(killed(kind, maker, planned, run) for _ in range(3)) for kind in kinds}
        for kind, seconds in lost.items():
            print(f"killed, {kind}: another is at its batch after {seconds:.3f} s")
        ended = killed_worker(maker, planned, run)
        print(f"killed, DataLoader: {ended}")
    return {"batch_seconds": step, "batch_mib": mebibytes, "sides": rows, "killed": lost, "killed_worker": ended}


def timed(maker: Maker, planned: Planned) -> float:
    began = time.perf_counter()
    maker(planned)
    return time.perf_counter() - began


if __name__ == "__main__":
    measuring.save("io_servers", main())
