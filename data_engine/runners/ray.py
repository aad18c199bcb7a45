"""Runs partitions on a pool of Ray actors: a model that `work` loads stays loaded in its actor, until its step ends.

One pool at a time: its workers hold the cores and the memory that the step says they need, so that what is running is
bounded by what was printed before. Only paths pass through Ray.
"""

import functools
import re
import shutil
import sys
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_engine import machine, tables
from data_engine.runners.needs import Needs
from data_engine.runners.partition import Blame, RunnerError, Work, run_partition, write
from data_engine.runners.ray_cluster import bound, room, start

ATTEMPTS = 3  # workers that one partition may end
PATIENCE = 300  # seconds without a single worker


class Worker:
    """One process of the pool: what it has imported and loaded stays loaded for all that follows."""

    def prepare(self) -> None:
        machine.prepare_worker()

    def run(self, work: Work, part: str, out: str) -> None:
        run_partition(work, Path(part), Path(out))


@dataclass
class Pool:
    """The workers of one model in one job (a cluster started anew is another job). `starting` and `running` are keyed
    by the call that tells of their end; a worker that the cluster has no room for is starting until it has."""

    job: str
    needs: Needs
    idle: list[Any] = field(default_factory=list)
    starting: dict[Any, Any] = field(default_factory=dict)
    running: dict[Any, tuple[Any, Path]] = field(default_factory=dict)

    def add(self, ray: Any) -> None:
        room = {"num_cpus": self.needs.cpus, "memory": self.needs.memory}
        # A dead worker is replaced here and not by Ray, which would hold its partition until the machine is back.
        self.idle.append(ray.remote(max_restarts=0, max_task_retries=0, **room)(Worker).remote())

    def check(self) -> None:
        """Lets every idle worker show that it lives before it is given anything."""
        self.starting |= {worker.prepare.remote(): worker for worker in self.idle}
        self.idle = []

    def workers(self) -> list[Any]:
        return [*self.idle, *self.starting.values(), *(worker for worker, _ in self.running.values())]


_pool: Pool | None = None


def run(work: Work, parts: Sequence[Path], out: Path, needs: Needs, blame: Blame | None) -> None:
    """Every partition once, whatever becomes of workers and machines meanwhile; markers keep finished ones so.

    A partition that ended `ATTEMPTS` workers is halved until the row is found that does it, and that row is blamed.
    Raises what `work` raised, and RunnerError for such a partition if there is no `blame`.
    """
    ray = start()
    pool = _ready(ray, needs, len(parts))
    try:
        _run(ray, pool, work, parts, out, blame)
    except BaseException:
        release(ray)
        raise
    if needs.models:
        release(ray)


def width(needs: Needs) -> int:
    return room([node["Resources"] for node in start().nodes() if node["Alive"]], needs)


def release(ray: Any) -> None:
    """Ends the workers of the pool, at work or not: their cores and memory are free."""
    global _pool
    pool, _pool = _pool, None
    if pool and pool.job == ray.get_runtime_context().get_job_id():
        for worker in pool.workers():
            ray.kill(worker)


def _ready(ray: Any, needs: Needs, num_parts: int) -> Pool:
    """The pool for these needs, as large as there are partitions for it and room in the cluster."""
    global _pool  # noqa: PLW0603
    job = ray.get_runtime_context().get_job_id()
    if _pool is None or (_pool.job, _pool.needs) != (job, needs):
        release(ray)
        _pool = Pool(job, needs)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    missing = min(max(1, num_parts), room(nodes, needs)) - len(_pool.workers())
    for _ in range(missing):
        _pool.add(ray)
    if missing > 0:
        _say(bound(nodes, needs, len(_pool.workers())))
    return _pool


@functools.cache
def _say(line: str) -> None:
    """Once, however often a pool is started again."""
    print(line, file=sys.stderr, flush=True)


def _run(
    ray: Any, pool: Pool, work: Work, parts: Sequence[Path], out: Path, blame: Blame | None, attempts: int = ATTEMPTS
) -> None:
    """Every partition; then those that ended their workers, if a row can be blamed, half by half."""
    for part, death in _drive(ray, pool, work, parts, out, attempts).items():
        table = pq.read_table(part)
        if blame is None:
            raise RunnerError(f"{part}: ended {attempts} workers for {pool.needs.name}, the last with: {death}")
        if len(table) == 1:
            write(blame(table, "ends every process that opens it"), part, out)
            continue
        scratch = out / "_halves" / part.stem
        halves = tables.write_partitions(table, scratch / "_in", -(-len(table) // 2))
        _run(ray, pool, work, halves, scratch, blame, 1 if len(table) > 2 else ATTEMPTS)
        names = [folder.name for folder in scratch.glob("[!_]*")]
        write({name: tables.read(scratch / name) for name in names}, part, out)
        shutil.rmtree(out / "_halves")


def _drive(ray: Any, pool: Pool, work: Work, parts: Sequence[Path], out: Path, attempts: int) -> dict[Path, str]:
    """Hands out partitions until all are done, but for those that it returns: they ended so many workers, and how."""
    shared, left, deaths = ray.put(work), deque(parts), Counter[Path | None]()
    given_up: dict[Path, str] = {}
    pool.check()
    while left or pool.running:
        while left and pool.idle:
            worker, part = pool.idle.pop(), left.popleft()
            pool.running[worker.run.remote(shared, str(part), str(out))] = worker, part
        ended, _ = ray.wait([*pool.running, *pool.starting], timeout=PATIENCE)
        if not ended and not pool.running:
            raise RunnerError(f"Ray: no machine has taken a worker for {pool.needs.name} in {PATIENCE} seconds")
        for call in ended:
            worker, done = pool.running.pop(call, None) or (pool.starting.pop(call), None)
            pool.idle.append(worker)
            death = _death(ray, call)
            if not death:
                deaths[None] = 0
                continue
            deaths[done] += 1
            _replace(ray, pool, worker)
            if done and deaths[done] < attempts:
                left.appendleft(done)
            elif done:
                given_up[done] = death
            elif deaths[None] > ATTEMPTS * len(pool.workers()):
                raise RunnerError(f"Ray: workers for {pool.needs.name} die as they start: {death}")
    return given_up


def _death(ray: Any, call: Any) -> str:
    """How a worker died over a call; empty if it did not. Raises what the work raised."""
    try:
        ray.get(call)
    except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as death:
        return ending(death)
    except ray.exceptions.RayTaskError as error:
        raise error.cause or error from error
    return ""


def ending(death: Exception) -> str:
    """How a worker died, out of the page that Ray writes about it."""
    said = re.search(r"exit detail: (.*?)(?= Some common causes|$)", " ".join(str(death).split()))
    return said[1] if said else str(death).partition("\n")[0]


def _replace(ray: Any, pool: Pool, dead: Any) -> None:
    """A new worker for a dead one; the idle must show that they live, for a machine takes many with it."""
    pool.idle.remove(dead)
    ray.kill(dead)  # one that is only out of reach must not go on beside its successor
    pool.add(ray)
    pool.check()
