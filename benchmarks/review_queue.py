"""The review queue under load, and how its claims scale.

    python benchmarks/review_queue.py [--seconds 30] [--tasks 1000000] [--postgres URL]

First the whole stack over loopback on SQLite: 50 people, each signed in, take a page, think for half a second, have
their page tell that it is alive, think as long, decide, and get the next page at once; what is timed is every request
as they see it. Then the claim alone (the store's transaction) in a queue of a thousand tasks and of a million, by
turns. Run it on an idle machine: clients and server share its cores.
"""

import argparse
import asyncio
import functools
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.measuring import save
from cot_factory.record import Decision, Task
from cot_factory.review import store
from cot_factory.review.tables import connect
from tests.cot_factory.review.annotators import Timed, add_people, serving, some_tasks, work, write_queue

PEOPLE = 50
THINKING = 0.5


def under_load(seconds: float) -> dict[str, dict[str, float]]:
    """Milliseconds of each kind of request: median, 99th percentile, number."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_queue(folder, some_tasks(20_000))
        engine = connect(f"sqlite:///{folder}/review/queue.sqlite")
        names = add_people(engine, PEOPLE)
        timed = Timed()
        with serving(folder) as (address, _):
            asyncio.run(_all(address, names, timed, seconds))
    kinds = {**timed.seconds, "all": [one for found in timed.seconds.values() for one in found]}
    return {
        kind: {
            "median": 1e3 * statistics.median(found),
            "p99": 1e3 * float(np.quantile(found, 0.99)),
            "number": len(found),
        }
        for kind, found in kinds.items()
    }


async def _all(address: str, names: list[str], timed: Timed, seconds: float) -> None:
    """All sign in before the first of them begins (passwords are meant to be slow); then they begin within a second, as
    people do not come in step.
    """
    signed, everybody = 0, asyncio.Event()
    end = float("inf")

    async def ready(at: int) -> None:
        nonlocal signed, end
        signed += 1
        if signed == len(names):
            end = time.monotonic() + seconds
            everybody.set()
        await everybody.wait()
        await asyncio.sleep(at / len(names))

    await asyncio.gather(
        *(
            work(
                address, name, THINKING, timed, until=lambda: time.monotonic() > end, beats=True,
                ready=functools.partial(ready, at),
            )
            for at, name in enumerate(names)
        )
    )  # fmt: skip


def claims(urls: dict[str, str], sizes: tuple[int, int], rounds: int = 400) -> dict[str, dict[int, float]]:
    """Median milliseconds of a claim, by database and number of tasks; the two sizes by turns."""
    found: dict[str, dict[int, float]] = {}
    for kind, url in urls.items():
        engines = {size: connect(url.format(size=size)) for size in sizes}
        for size, engine in engines.items():
            _fill(engine, size)
            add_people(engine, 1)
        taken: dict[int, list[float]] = {size: [] for size in sizes}
        for at in range(rounds):
            for size, engine in engines.items():
                start = time.perf_counter()
                held = store.claim(engine, "person-00", float(at), 60)
                taken[size].append(time.perf_counter() - start)
                assert held
                store.decide(engine, "person-00", held.token, Decision(held.task.id, "person-00", "accept"), at + 0.5)
        found[kind] = {size: 1e3 * statistics.median(times) for size, times in taken.items()}
        for engine in engines.values():
            engine.dispose()
    return found


def _fill(engine: object, size: int) -> None:
    first = some_tasks(1)[0]
    for start in range(0, size, 50_000):
        names = range(start, min(start + 50_000, size))
        store.load(engine, (_like(first, at) for at in names), 1, 0.0)  # type: ignore[arg-type]


def _like(task: Task, at: int) -> Task:
    values = {name: getattr(task, name) for name in task.__slots__}
    return Task(**{**values, "id": f"task-{at:07d}", "uncertainty": (at * 7919 % 10_007) / 10_007})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--postgres", default="", help="postgresql+psycopg://.../db{size}: two databases, by size")
    options = parser.parse_args()
    load = under_load(options.seconds)
    print(f"{PEOPLE} people, {THINKING} s of thinking, {options.seconds:g} s, SQLite")
    for kind, row in load.items():
        print(f"  {kind:<8}{row['number']:>8,} requests   median {row['median']:6.1f} ms   99th {row['p99']:6.1f} ms")
    with tempfile.TemporaryDirectory() as scratch:
        urls = {"SQLite": f"sqlite:///{scratch}/" + "{size}.sqlite"}
        if options.postgres:
            urls["PostgreSQL"] = options.postgres
        found = claims(urls, (1000, options.tasks))
    for kind, times in found.items():
        small, large = times.values()
        print(
            f"claim, {kind}: {small:.2f} ms of 1,000 tasks, {large:.2f} ms of {options.tasks:,}: {large / small:.2f}x"
        )
    save("review_queue", {"load": load, "claims": {kind: dict(times) for kind, times in found.items()}})


if __name__ == "__main__":
    main()
