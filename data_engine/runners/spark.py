"""Runs partitions as the tasks of one Spark job, and holds the one Spark session of a process."""

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_engine import machine
from data_engine.runners.needs import Needs
from data_engine.runners.partition import Blame, Work, run_partition

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CHECKOUT = Path(__file__).parents[2]


def session() -> "SparkSession":
    """The running session, or a new one: the submitted job's master if there is one, else local[*]."""
    machine.prepare()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    from pyspark.sql import SparkSession

    running = SparkSession.getActiveSession()
    if running is not None:
        return running
    builder = (
        SparkSession.builder.appName("keyeforge")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.driver.memory", "1g")
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
        .config("spark.executorEnv.PYTHONPATH", _import_path())
    )
    if not submitted():
        builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def submitted() -> bool:
    """Was this process started by spark-submit?"""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def _import_path() -> str:
    """Executors import what the driver imports: this checkout, and whatever its own PYTHONPATH names."""
    return os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))


def end_with_submitter() -> None:
    """Ends this process as soon as the spark-submit that started it is gone.

    `kill -9` hits spark-submit's own process, the JVM: the driver it started would go on until it next calls Spark,
    beside the run that is started in its place. Its standard input is a pipe that the JVM holds open.
    """

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def run(work: Work, parts: Sequence[Path], out: Path, _needs: Needs, _blame: Blame | None) -> None:
    """A task whose executor dies is run again elsewhere; the markers keep finished partitions from repeating."""
    context = session().sparkContext
    paths = [str(part) for part in parts]
    folder = str(out)

    def task(part: str) -> None:
        machine.prepare_worker()
        run_partition(work, Path(part), Path(folder))

    context.parallelize(paths, len(paths)).foreach(task)


def width(_needs: Needs) -> int:
    return max(1, int(session().sparkContext.defaultParallelism))
