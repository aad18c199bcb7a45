"""The Ray cluster that a run uses, named by RAY_ADDRESS or started here, and what it has room for."""

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from data_engine import machine
from data_engine.runners.needs import MIB, Needs
from data_engine.runners.partition import RunnerError

CHECKOUT = Path(__file__).parents[2]


def start() -> Any:
    """Connects to the cluster of RAY_ADDRESS, or starts a local one; returns the ray module. Raises RunnerError."""
    machine.prepare()
    address = os.environ.get("RAY_ADDRESS")
    if address and _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # a named cluster's token is used only if one says so
    import ray

    if not ray.is_initialized():
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address:
            _connect(ray, address, quiet)
        else:  # only paths pass through the object store, so a small one will do
            _init(ray, {"object_store_memory": 256 * MIB, "include_dashboard": False, **quiet})
    return ray


def _has_token() -> bool:
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / ".ray" / "auth_token").exists()


def _connect(ray: Any, address: str, options: dict[str, Any]) -> None:
    """Workers of a cluster import what the driver imports: this checkout, and whatever its own PYTHONPATH names."""
    os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")  # a submitted job may name a PYTHONPATH too
    paths = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit() and "/" not in host:  # Ray itself asks for four minutes and then ends the process
            socket.create_connection((host, int(port)), timeout=20).close()
        ray.init(address=address, runtime_env={"env_vars": {"PYTHONPATH": paths}}, **options)
    except (OSError, ray.exceptions.RayError) as error:
        why = str(error).partition("\n")[0]
        raise RunnerError(f"RAY_ADDRESS={address}: no cluster to be reached there ({why}); see docs/ray.md") from error


def _init(ray: Any, options: dict[str, Any], tries: int = 5) -> None:
    """Ray gives its raylet 30 fixed seconds to start, too few on a busy machine: asks again before giving up.

    What a failed start leaves running is ended first: it would keep the machine busy.
    """
    before = set(psutil.Process().children(recursive=True))
    for left in reversed(range(tries)):
        try:
            ray.init(address="local", **options)
            return
        except Exception as error:
            ray.shutdown()
            for process in set(psutil.Process().children(recursive=True)) - before:
                with suppress(psutil.Error):
                    process.kill()
            if not left or "timed out during startup" not in str(error):
                raise


def room(nodes: Sequence[Mapping[str, float]], needs: Needs) -> int:
    """How many workers the resources of the machines are enough for. Raises RunnerError if for none."""
    most = {name: max((node.get(name, 0) for node in nodes), default=0) for name in ("CPU", "memory")}
    fits = sum(int(min(node.get("CPU", 0) / needs.cpus, node.get("memory", 0) / needs.memory)) for node in nodes)
    if not fits:
        raise RunnerError(
            f"Ray: a worker for {needs.name} needs {needs.cpus:g} CPU and {needs.memory / MIB:,.0f} MiB, and none of "
            f"{len(nodes)} machines has both (at most {most['CPU']:g} CPU, {most['memory'] / MIB:,.0f} MiB): "
            "add a larger one, or start Ray there with --memory and --num-cpus"
        )
    return fits


def bound(nodes: Sequence[Mapping[str, float]], needs: Needs, num_workers: int) -> str:
    """What a pool may take, beside what there is."""
    memory, store = (sum(node.get(name, 0) for node in nodes) for name in ("memory", "object_store_memory"))
    taken = num_workers * needs.memory + store
    return (
        f"Ray, {needs.name}: {num_workers} x {needs.memory / MIB:,.0f} MiB + object store {store / MIB:,.0f} MiB = "
        f"{taken / MIB:,.0f} MiB at most, of {(memory + store) / MIB:,.0f} MiB on {len(nodes)} machines"
    )
