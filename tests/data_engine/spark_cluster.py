"""A real standalone Spark cluster on loopback: the pyspark package's own master and workers, and jobs for it."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pyspark

from data_engine import machine

SPARK_HOME = Path(pyspark.__file__).parent
CHECKOUT = Path(__file__).parents[2]
JOB = CHECKOUT / "data_engine" / "jobs" / "curate.py"
Found = TypeVar("Found")


@dataclass
class Cluster:
    """A master, and workers of one core each; `everything`: they and the jobs, dead or alive. `folder` has the logs."""

    folder: Path
    master: subprocess.Popen[bytes]
    url: str = ""
    web: str = ""
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    everything: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        """What the master says of itself, its workers and its applications."""
        with urllib.request.urlopen(f"{self.web}/json/", timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def hold(self, count: int) -> None:
        """Starts as many workers as are wanting and waits until the master counts `count`."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < count:
            options = ("--host", "127.0.0.1", "--cores", "1", "--memory", "1g", "--webui-port", "0")
            work = ("--work-dir", str(self.folder / "work"))
            self.workers.append(daemon(self.folder, "worker.Worker", *options, *work, self.url))
            self.everything.append(self.workers[-1])
        until(self.master, lambda: self.state()["aliveworkers"] == count)

    def submit(self, recipe: Path, out: Path) -> subprocess.Popen[bytes]:
        """The command of docs/architecture.md, its driver on loopback and its executors small. Its log: `out`.log."""
        settings = {"spark.executor.memory": "512m", "spark.driver.host": "127.0.0.1"}
        options = [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
        job = [str(JOB), str(recipe), "--out", str(out), "--runner", "spark"]
        command = [str(SPARK_HOME / "bin" / "spark-submit"), "--master", self.url, *options, *job]
        self.everything.append(start(command, out.with_suffix(".log"), os.environ | {"SPARK_HOME": str(SPARK_HOME)}))
        return self.everything[-1]


def start(command: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A process in a session of its own, so that all it starts can be found and ended with it."""
    with log.open("ab") as file:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, start_new_session=True
        )


def daemon(folder: Path, name: str, *options: str) -> subprocess.Popen[bytes]:
    """A master or worker, with Spark's own settings, and without this checkout on its import path."""
    mine = ("PYTHONPATH", "SPARK_CONF_DIR", "PYSPARK_PYTHON")
    environment = {key: value for key, value in os.environ.items() if key not in mine}
    environment |= {"SPARK_HOME": str(SPARK_HOME), "SPARK_DAEMON_MEMORY": "128m", "SPARK_LOCAL_IP": "127.0.0.1"}
    environment["SPARK_MASTER_OPTS"] = "-Dspark.master.rest.enabled=false"
    command = [str(SPARK_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", *options]
    return start(command, folder / f"{name}.log", environment)


def until(process: subprocess.Popen[bytes], found: Callable[[], Found], seconds: float = 240) -> Found:
    """What `found` returns, asked again until that is something, while the process lives."""
    last = time.monotonic() + seconds
    while not (value := found()):
        with suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"{process.args} ended with {process.wait(0.05)}")
        assert time.monotonic() < last, f"{process.args}: not within {seconds} s"
    return value


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills a process and all of its session, also what outlived its parent."""
    for pid in psutil.pids():
        with suppress(ProcessLookupError):
            if os.getsid(pid) == process.pid:
                os.kill(pid, signal.SIGKILL)
    process.wait()


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[Cluster]:
    """A running cluster; nothing of it is left at the end."""
    machine.prepare()
    options = ("--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
    found = Cluster(folder, daemon(folder, "master.Master", *options))
    try:
        found.url = until(found.master, lambda: _logged(folder, r"Starting Spark master at (spark://\S+)"))
        page = until(found.master, lambda: _logged(folder, r"MasterWebUI.* started at (http://\S+)"))
        found.web = page.replace("localhost", "127.0.0.1")
        found.hold(workers)
        yield found
    finally:
        for process in (*found.everything, found.master):
            end(process)


def _logged(folder: Path, what: str) -> str:
    said = re.search(what, (folder / "master.Master.log").read_text(encoding="utf-8", errors="replace"))
    return said[1] if said else ""
