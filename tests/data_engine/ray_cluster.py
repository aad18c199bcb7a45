"""A real Ray cluster of several nodes on this machine, each with a core and a daemon of its own; and jobs for it."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from data_engine import machine
from tests.data_engine.spark_cluster import CHECKOUT, JOB, end, start, until

RAY = Path(sys.executable).with_name("ray")
Process = subprocess.Popen[bytes]


@dataclass
class RayCluster:
    """Nodes of one core each, the first with the job server; `everything`: they and the jobs, dead or alive."""

    folder: Path
    environment: dict[str, str]
    address: str
    server: str
    nodes: list[Process] = field(default_factory=list)
    everything: list[Process] = field(default_factory=list)

    def hold(self, count: int) -> None:
        """Starts as many nodes as are wanting, one after the other, and waits for each. Ray gives a node 30 fixed
        seconds, too few on a busy machine: it is asked three times."""
        self.nodes = [node for node in self.nodes if node.poll() is None]
        for tries in range(3 * count):
            if len(self.nodes) == count:
                return
            node = self._node(self.folder / str(len(self.everything)))
            try:
                until(node, lambda node=node: "Ray runtime started" in self._said(node))  # type: ignore[misc]
                self.nodes.append(node)
            except AssertionError:
                assert tries < 3 * count - 1, self._said(node)[-3000:]
                end(node)

    def _node(self, place: Path) -> Process:
        port, web = (address.rpartition(":")[2] for address in (self.address, self.server))
        head = ["--head", "--port", port, "--dashboard-host", "127.0.0.1", "--dashboard-port", web]
        which = ["--address", self.address] if self.nodes else head
        small = ["--num-cpus", "1", "--memory", str(2 << 30), "--object-store-memory", str(100 << 20)]
        rest = ["--dashboard-agent-listen-port", "0", "--disable-usage-stats", "--block", "--temp-dir", str(place)]
        command = [str(RAY), "start", *which, *small, *rest]
        self.everything.append(start(command, place.with_suffix(".log"), self.environment))
        return self.everything[-1]

    def _said(self, node: Process) -> str:
        place: str = node.args[-1]  # type: ignore[index, assignment]
        return Path(place).with_suffix(".log").read_text(encoding="utf-8", errors="replace")

    def submit(self, recipe: Path, out: Path) -> Process:
        """The command of docs/ray.md. Its log: `out`.log."""
        job = [sys.executable, str(JOB), str(recipe), "--out", str(out), "--runner", "ray"]
        paths = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
        options = ["--address", self.server, "--runtime-env-json", json.dumps({"env_vars": {"PYTHONPATH": paths}})]
        return self.start([str(RAY), "job", "submit", *options, "--", *job], out)

    def command(self, recipe: Path, out: Path) -> Process:
        """The same run as a command on a machine of the cluster, which is named by RAY_ADDRESS."""
        return self.start([sys.executable, str(JOB), str(recipe), "--out", str(out), "--runner", "ray"], out)

    def start(self, command: list[str], out: Path) -> Process:
        named = {name: value for name, value in self.environment.items() if name != "RAY_AUTH_MODE"}
        mode = {"RAY_AUTH_MODE": "token"} if command[0] == str(RAY) else {"RAY_ADDRESS": self.address}
        process = start(command, out.with_suffix(".log"), named | mode)
        self.everything.append(process)
        return process

    def workers(self, node: Process) -> list[psutil.Process]:
        """The actors at work on a node."""
        return [process for process in _session(node) if "".join(_words(process)[:1]).startswith("ray::Worker.run")]

    def raylet(self, node: Process) -> psutil.Process:
        return next(process for process in _session(node) if "".join(_words(process)[:1]).endswith("/raylet/raylet"))


def _session(leader: Process) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(ProcessLookupError):
            if os.getsid(process.pid) == leader.pid:
                yield process


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def driver(out: Path) -> psutil.Process:
    """The process of a submitted job that writes into `out`: its supervisor gave it a session of its own."""
    return next(process for process in psutil.process_iter() if {str(JOB), str(out)} <= set(_words(process)[1:5]))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


@contextmanager
def ray_cluster(nodes: int) -> Iterator[RayCluster]:
    """A running cluster with a token of its own; nothing of it is left at the end."""
    machine.prepare()
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # short: sockets lie in it, whose paths have 107 characters at most
    (folder / "token").write_text(secrets.token_hex(32))
    mine = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    found = RayCluster(
        folder,
        {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | machine.QUIET | mine,
        f"127.0.0.1:{free_port()}",
        f"http://127.0.0.1:{free_port()}",
    )
    try:
        found.hold(nodes)
        yield found
    finally:
        for process in reversed(found.everything):
            end(process)
        for other in psutil.process_iter():  # drivers of jobs have sessions of their own
            with suppress(psutil.Error):
                if any(str(folder) in value for value in other.environ().values()) and other.pid != os.getpid():
                    other.kill()
        shutil.rmtree(folder, ignore_errors=True)
