"""Jobs on a real Ray cluster of two nodes: the local runner's bytes, whatever of it is killed."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from data_engine import catalog
from data_engine.step import UNFINISHED
from tests.data_engine import sft_corpus
from tests.data_engine.ray_cluster import RayCluster, driver, ray_cluster
from tests.data_engine.spark_cluster import until
from tests.data_engine.test_spark_cluster import files, markers, number_of_parts, stamps

ROWS = 2000


@pytest.fixture(scope="module")
def recipe(corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sft_corpus.large(corpora, tmp_path_factory.mktemp("corpora"), ROWS)


@pytest.fixture(scope="module")
def expected(recipe: Path) -> dict[str, str]:
    return sft_corpus.left_by_local(recipe)


@pytest.fixture(scope="module")
def cluster(expected: dict[str, str]) -> Iterator[RayCluster]:
    with ray_cluster(2) as found:
        yield found


def finish(job: subprocess.Popen[bytes], out: Path) -> str:
    """The job's log, when it is done."""
    code = job.wait(300)
    log = out.with_suffix(".log").read_text(encoding="utf-8")
    assert code == 0, log[-3000:]
    return log


def test_a_killed_worker_and_a_lost_node_change_nothing(
    cluster: RayCluster, recipe: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    """SIGKILL for an actor while both nodes have parts in hand, and then for the other node's daemon."""
    out = tmp_path / "run"
    cluster.hold(2)
    first, second = cluster.nodes
    job = cluster.submit(recipe, out)
    until(job, lambda: markers(out) and cluster.workers(first) and cluster.workers(second))
    killed = cluster.workers(first)[0]
    killed.kill()
    done = len(markers(out))
    until(job, lambda: len(markers(out)) > done and cluster.workers(second))
    cluster.raylet(second).kill()
    assert len(markers(out)) < number_of_parts(out)
    log = finish(job, out)
    assert "of 4,296 MiB on 2 machines" in log and "succeeded" in log
    assert sft_corpus.digests(out) == expected
    assert second.wait(60) and not killed.is_running()


def test_after_a_killed_driver_the_run_goes_on_where_it_was(
    cluster: RayCluster, recipe: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    """None of its actors outlives it. The same folder is then given to a command and to a job: one dataset."""
    out = tmp_path / "run"
    cluster.hold(2)
    job = cluster.submit(recipe, out)
    until(job, lambda: len(markers(out)) >= 2)
    workers = [worker for node in cluster.nodes for worker in cluster.workers(node)]
    driver(out).kill()
    assert workers and not psutil.wait_procs(workers, timeout=60)[1] and job.wait(120)
    finished, parts = markers(out), files(out, ".measure.sft-*/measures")
    begun = json.loads((out / UNFINISHED).read_text())["steps"]
    done = {name: stamps(out / folder) for name, folder in begun.items()}
    assert len(finished) < number_of_parts(out) and "ingest.sft" in done and "measure.sft" not in done

    finish(cluster.command(recipe, out), out)
    assert sft_corpus.digests(out) == expected
    steps = catalog.steps(out)
    assert {name: stamps(steps[name]) for name in done} == done
    again = files(out, "measure.sft-*/measures")
    assert {name: again[name] for name in finished} == {name: parts[name] for name in finished}

    whole = {name: stamps(folder) for name, folder in steps.items()}
    log = finish(cluster.submit(recipe, out), out)
    assert {name: stamps(folder) for name, folder in catalog.steps(out).items()} == whole
    assert log.count("as before") >= len(whole)
