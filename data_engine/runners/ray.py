"""Runs partitions on a pool of Ray actors: a model that `work` loads stays loaded in its actor."""

import functools
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from data_engine import machine
from data_engine.runners.partition import Work, run_partition


def start() -> Any:
    """Connects to the cluster of RAY_ADDRESS, or starts a local one; returns the ray module."""
    machine.prepare()
    import ray

    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        # Only paths pass through the object store, so a small one will do.
        local = {} if address else {"object_store_memory": 256 << 20, "include_dashboard": False}
        _init(ray, {"address": address, "log_to_driver": False, "logging_level": "ERROR", **local})
    return ray


def _init(ray: Any, options: dict[str, Any], tries: int = 5) -> None:
    """Ray gives its raylet 30 fixed seconds to start, too few on a busy machine: asks again before giving up.

    What a failed start leaves running is ended first: it would keep the machine busy.
    """
    before = set(psutil.Process().children(recursive=True))
    for left in reversed(range(tries)):
        try:
            ray.init(**options)
            return
        except Exception as error:
            ray.shutdown()
            for process in set(psutil.Process().children(recursive=True)) - before:
                with suppress(psutil.Error):
                    process.kill()
            if not left or "timed out during startup" not in str(error):
                raise


class Worker:
    """One process of the pool: what it has imported and loaded stays loaded for all that follows."""

    def run(self, work: Work, part: str, out: str) -> None:
        machine.prepare_worker()
        run_partition(work, Path(part), Path(out))


@functools.cache
def _pool(job: str) -> list[Any]:  # noqa: ARG001 - a cluster started anew is another job, and gets a pool of its own
    """The pool of the job that is running: one actor per core, started once."""
    import ray

    actor = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=3)(Worker)
    return [actor.remote() for _ in range(max(1, int(ray.cluster_resources().get("CPU", 1))))]


def run(work: Work, parts: Sequence[Path], out: Path) -> None:
    """A dead actor is restarted and its partition run again; the markers keep finished ones from repeating."""
    ray = start()
    shared = ray.put(work)
    pool = ray.util.ActorPool(_pool(ray.get_runtime_context().get_job_id()))
    for _ in pool.map_unordered(lambda actor, part: actor.run.remote(shared, part, str(out)), map(str, parts)):
        pass
