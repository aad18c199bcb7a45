"""A job on a real standalone cluster: the local runner's bytes, also where a worker or driver is killed."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from data_engine import catalog
from data_engine.step import UNFINISHED
from tests.data_engine import sft_corpus
from tests.data_engine.spark_cluster import Cluster, cluster, until

ROWS = 3000


@pytest.fixture(scope="module")
def recipe(corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sft_corpus.large(corpora, tmp_path_factory.mktemp("corpora"), ROWS)


@pytest.fixture(scope="module")
def expected(recipe: Path) -> dict[str, str]:
    return sft_corpus.left_by_local(recipe)


@pytest.fixture(scope="module")
def spark_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster"), workers=2) as found:
        yield found


def markers(out: Path) -> set[str]:
    """The finished parts of the long step while it is under way."""
    return {file.name for file in out.glob("steps/.measure.sft-*/_done/*")}


def finish(job: subprocess.Popen[bytes], out: Path) -> None:
    assert job.wait(300) == 0, out.with_suffix(".log").read_text(encoding="utf-8")[-3000:]


def number_of_parts(out: Path) -> int:
    return len(list(out.glob("steps/ingest.sft-*/samples/*.parquet")))


def test_a_killed_worker_changes_nothing(
    spark_cluster: Cluster, recipe: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    """With SIGKILL for a worker and its executor while both executors have parts in hand."""
    out = tmp_path / "run"
    spark_cluster.hold(2)
    job = spark_cluster.submit(recipe, out)
    until(job, lambda: markers(out))
    lost = spark_cluster.workers[0]
    executors = [child for child in psutil.Process(lost.pid).children() if "java" in child.name()]
    for process in (lost, *executors):
        os.kill(process.pid, signal.SIGKILL)
    assert len(executors) == 1 and len(markers(out)) < number_of_parts(out)
    finish(job, out)
    assert sft_corpus.digests(out) == expected
    assert lost.wait() == -signal.SIGKILL and spark_cluster.state()["aliveworkers"] == 1


def test_after_a_killed_driver_the_same_command_goes_on_where_it_was(
    spark_cluster: Cluster, recipe: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    spark_cluster.hold(2)
    job = spark_cluster.submit(recipe, out)
    until(job, lambda: len(markers(out)) >= 2)
    children = psutil.Process(job.pid).children()  # the shell that started it all may not be reaped yet
    driver = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    job.kill()
    assert len(driver) == 1 and not psutil.wait_procs(driver, timeout=60)[1]  # it does not outlive its spark-submit
    finished, parts = markers(out), files(out, ".measure.sft-*/measures")
    begun = json.loads((out / UNFINISHED).read_text())["steps"]
    done = {name: stamps(out / folder) for name, folder in begun.items()}
    assert len(finished) < number_of_parts(out) and "ingest.sft" in done and "measure.sft" not in done

    finish(spark_cluster.submit(recipe, out), out)
    assert sft_corpus.digests(out) == expected
    steps = catalog.steps(out)
    assert {name: stamps(steps[name]) for name in done} == done
    again = files(out, "measure.sft-*/measures")
    assert {name: again[name] for name in finished} == {name: parts[name] for name in finished}


def files(out: Path, folder: str) -> dict[str, tuple[int, int]]:
    """Inode and time of change of each part: another attempt would have put a new file there."""
    found = {path.name: path.stat() for path in out.glob(f"steps/{folder}/*.parquet")}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of change of a finished step and of all in it."""
    found = {str(path): path.stat() for path in (folder, *folder.rglob("*"))}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}
