"""One operator, three runners: the same bytes, and no partition lost with a dying worker."""

import hashlib
import os
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_engine import catalog, judge, tables
from data_engine.curate import curate
from data_engine.passes import PASSES
from data_engine.recipe import load_recipe
from data_engine.runners import partition
from data_engine.runners.partition import RunnerName
from tests.data_engine import sft_corpus

# Operators that cannot do without settings.
NEEDED: dict[str, Any] = {"rights": {"policy": {"refused": ["GPL*"]}}}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted([*folder.glob("measures/*.parquet"), *folder.glob("decided/verdicts/*.parquet")])
    }


@pytest.mark.parametrize("corpus", ["stamps", "scene_text", "film", "reference", "champ"])
@pytest.mark.usefixtures("spark", "ray")
def test_every_operator_writes_the_same_bytes_on_all_runners(small_run: Path, tmp_path: Path, corpus: str) -> None:
    """Each operator's measures and verdicts over real samples of every modality, on each runner."""
    steps = catalog.steps(small_run)
    samples = tables.read(steps.get(f"ocr.{corpus}", steps[f"ingest.{corpus}"]) / "samples")
    parts = tables.write_partitions(samples, tmp_path / "samples", max(1, len(samples) // 3))
    assert len(parts) > 1
    readings = steps[f"ocr.{corpus}"] / "ocr" if f"ocr.{corpus}" in steps else None
    sight = judge.Sight(tmp_path / "samples", steps[f"probe.{corpus}"], readings, small_run / "media")
    plain = [(name, model(**NEEDED.get(name, {}))) for name, model in judge.OPERATORS.items() if not model.needs_media]
    units = tables.write_partitions(pa.table({"part": [part.name for part in parts]}), tmp_path / "units", 1)
    runners: tuple[RunnerName, ...] = ("local", "spark", "ray")
    for name in runners:
        measure = partial(judge.measure_partition, operators=plain, sight=sight)
        partition.run(name, measure, units, tmp_path / name, lambda done, total: None)
        decide = partial(judge.decide_partition, operators=plain, measures=tmp_path / name / "measures")
        partition.run(name, decide, units, tmp_path / name / "decided", lambda done, total: None)
    local, spark, ray = (digests(tmp_path / name) for name in runners)
    assert local == spark == ray and len(local) == 2 * len(parts)


@pytest.mark.usefixtures("spark", "ray")
def test_every_pass_drops_the_same_on_all_runners(corpora: Any, tmp_path: Path) -> None:
    """And so does everything else that a run leaves: rows for each pass to drop were planted."""
    recipe = sft_corpus.write(tmp_path, sft_corpus.problems(corpora), "sft")
    recipe = sft_corpus.with_corpus(recipe, sft_corpus.pictures(corpora, tmp_path))
    runners: tuple[RunnerName, ...] = ("local", "spark", "ray")
    for name in runners:
        assert not curate(load_recipe(recipe), tmp_path / name, runner=name).failed
    local, spark, ray = (sft_corpus.digests(tmp_path / name) for name in runners)
    assert local == spark == ray
    steps = [(step.split(".")[0], folder) for step, folder in catalog.steps(tmp_path / "local").items()]
    dropping = {name for name, folder in steps if name in PASSES and tables.count(folder / "drops")}
    assert dropping == set(PASSES) - {"semantic", "video"}  # test_semantic and test_making have those


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
