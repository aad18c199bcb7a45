"""One operator, three runners: the same bytes, and no partition lost with a dying worker."""

import hashlib
import os
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_engine import catalog, judge, tables
from data_engine.runners import partition
from data_engine.runners.partition import RunnerName


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.glob("measures/*.parquet"))
    }


def test_all_runners_write_the_same_bytes(small_run: Path, tmp_path: Path) -> None:
    """Operators over real samples, measured on each runner."""
    samples = tables.read(catalog.steps(small_run)["dedup.reference"] / "samples")
    operators = judge.build([{"text_quality": {}}, {"repetition": {}}, {"length": {}}, {"language": {}}])
    work = partial(judge.measure_partition, operators=operators, media={}, readings={})
    parts = tables.write_partitions(samples, tmp_path / "in", 20)
    assert len(parts) > 1
    runners: tuple[RunnerName, ...] = ("local", "spark", "ray")
    for name in runners:
        partition.run(name, work, parts, tmp_path / name, lambda done, total: None)
    local, spark, ray = (digests(tmp_path / name) for name in runners)
    assert local == spark == ray and len(local) == len(parts)


@pytest.mark.usefixtures("ray")
def test_a_killed_ray_worker_neither_loses_nor_repeats(tmp_path: Path) -> None:
    flag = str(tmp_path / "died")

    def work(table: pa.Table) -> dict[str, pa.Table]:
        if table["x"][0].as_py() == 4 and not os.path.exists(flag):  # noqa: PTH110 - runs in the worker
            os.close(os.open(flag, os.O_CREAT))
            os._exit(1)
        return {"out": table}

    parts = tables.write_partitions(pa.table({"x": list(range(12))}), tmp_path / "in", 2)
    partition.run("ray", work, parts, tmp_path / "run", lambda done, total: None)
    assert Path(flag).exists()
    assert tables.read(tmp_path / "run" / "out")["x"].to_pylist() == list(range(12))


@pytest.mark.usefixtures("spark")
def test_progress_reaches_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    parts = tables.write_partitions(pa.table({"x": list(range(6))}), tmp_path / "in", 2)

    def work(table: pa.Table) -> dict[str, Any]:
        return {"out": table}

    partition.run("spark", work, parts, tmp_path / "run", lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)
