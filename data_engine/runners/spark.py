"""Runs partitions as the tasks of one Spark job, and holds the one Spark session of a process."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_engine import machine
from data_engine.runners.partition import Work, run_partition

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


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
    )
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # started by us, not by spark-submit
        builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def run(work: Work, parts: Sequence[Path], out: Path) -> None:
    context = session().sparkContext
    paths = [str(part) for part in parts]
    folder = str(out)
    context.parallelize(paths, len(paths)).foreach(lambda part: run_partition(work, Path(part), Path(folder)))
