"""Steps: done once per content, published whole, continued where they were killed."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from data_engine import code_version, media, tables
from data_engine.runners import partition
from data_engine.step import Counts, CpuMeter, Run, StepResult


def counted(
    calls: list[str], run: Run, name: str = "count", config: object = 1, inputs: Sequence[StepResult | str] = ()
) -> StepResult:
    def build(folder: Path) -> Counts:
        calls.append(name)
        (folder / "data.txt").write_text("x" * 100)
        return {"samples_kept": 4}

    return run.step(name, config=config, inputs=inputs, code=["data_engine.mixture"], build=build)


def test_the_same_work_is_not_done_twice(tmp_path: Path) -> None:
    calls: list[str] = []
    first, again = counted(calls, Run(tmp_path)), counted(calls, Run(tmp_path))
    assert calls == ["count"] and first.folder == again.folder and again.reused and not first.reused
    assert first.record["counts"] == {"samples_kept": 4} and first.record["bytes_per_sample_kept"] == 25
    assert {"seconds", "cpu_seconds", "inputs", "code"} <= set(first.record)


def test_other_settings_inputs_or_code_are_other_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    run = Run(tmp_path)
    folders = {
        counted(calls, run).folder,
        counted(calls, run, config=2).folder,
        counted(calls, run, inputs=["a"]).folder,
    }
    upstream = counted(calls, run, name="upstream", config=7)
    folders.add(counted(calls, run, inputs=[upstream]).folder)
    monkeypatch.setattr(code_version, "fingerprint", lambda names: "edited")
    folders.add(counted(calls, run).folder)
    assert len(folders) == 5 and len(calls) == 6


def test_only_a_run_that_came_to_its_end_is_told_of(tmp_path: Path) -> None:
    first, second = Run(tmp_path), Run(tmp_path)
    counted([], first)
    assert not (tmp_path / "run.json").exists()
    first.finish()
    told = (tmp_path / "run.json").read_text()
    counted([], second, config=2)
    assert (tmp_path / "run.json").read_text() == told
    second.finish()
    assert (tmp_path / "run.json").read_text() != told


def test_a_step_that_fails_leaves_nothing_that_looks_done(tmp_path: Path) -> None:
    def build(folder: Path) -> Counts:
        (folder / "half.txt").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        Run(tmp_path).step("fragile", config=1, inputs=[], code=["data_engine.mixture"], build=build)
    assert not [p for p in (tmp_path / "steps").iterdir() if not p.name.startswith(".")]
    assert not (tmp_path / "run.json").exists()


def test_a_killed_step_continues_with_the_partitions_left(tmp_path: Path) -> None:
    seen: list[int] = []
    broken = [True]

    def work(table: pa.Table) -> dict[str, pa.Table]:
        value = table["x"][0].as_py()
        if value == 4 and broken:
            broken.clear()
            raise RuntimeError("killed")
        seen.append(value)
        return {"out": table}

    def build(folder: Path) -> Counts:
        parts = tables.write_partitions(pa.table({"x": list(range(10))}), folder / "_in", 2)
        partition.run("local", work, parts, folder, lambda done, total: None)
        return {"samples_kept": tables.count(folder / "out")}

    def attempt() -> StepResult:
        return Run(tmp_path).step("long", config=1, inputs=[], code=["data_engine.mixture"], build=build)

    with pytest.raises(RuntimeError):
        attempt()
    assert seen == [0, 2]
    result = attempt()
    assert seen == [0, 2, 4, 6, 8] and result.record["counts"]["samples_kept"] == 10
    assert tables.read(result.table("out"))["x"].to_pylist() == list(range(10))


def test_cpu_seconds_include_child_processes() -> None:
    import subprocess
    import sys

    with CpuMeter() as meter:
        spin = "import time\nwhile time.process_time() < 1.5: pass"
        subprocess.run([sys.executable, "-c", spin], check=True)
    assert meter.seconds > 0.4  # a child that ends between two looks is counted up to the last look


def test_two_attempts_at_one_partition_leave_one_whole_part(tmp_path: Path) -> None:
    """The second begins and ends while the first is in the middle: a speculative task, or a worker thought dead."""
    parts = tables.write_partitions(pa.table({"x": list(range(9))}), tmp_path / "in", 9)
    first, out = [True], tmp_path / "out"

    def work(table: pa.Table) -> dict[str, pa.Table]:
        if first:
            first.clear()
            partition.run_partition(work, parts[0], out)
        return {"out": table}

    with media.incoming(out / "out" / parts[0].name) as half:
        half.write(b"PAR1")
        partition.run_partition(work, parts[0], out)
        whole = (out / "out" / parts[0].name).stat()
        half.seek(0)
        half.write((out / "out" / parts[0].name).read_bytes())
    assert tables.read(out / "out")["x"].to_pylist() == list(range(9))
    assert whole.st_ino != (out / "out" / parts[0].name).stat().st_ino
    assert [path.name for path in (out / "out").iterdir()] == [parts[0].name]


def test_what_a_worker_writes_after_its_step_is_over_is_not_taken_for_work_done(tmp_path: Path) -> None:
    def build(folder: Path) -> Counts:
        parts = tables.write_partitions(pa.table({"x": [1, 2]}), folder / "_in", 1)
        partition.run("local", lambda table: {"a": table, "b": table}, parts, folder, lambda done, total: None)
        (folder / "a" / f"{media.INCOMING}killed").touch()
        return {"samples_kept": tables.count(folder / "a")}

    def attempt() -> StepResult:
        return Run(tmp_path).step("late", config=1, inputs=[], code=["data_engine.mixture"], build=build)

    result = attempt()
    assert sorted(path.name for path in result.table("a").iterdir()) == ["part-00000.parquet", "part-00001.parquet"]
    hidden = result.folder.with_name(f".{result.folder.name}")
    partition.run_partition(lambda table: {"b": table}, result.folder / "_in" / "part-00000.parquet", hidden)
    assert (hidden / "_done" / "part-00000.parquet").exists()
    shutil.rmtree(result.folder)
    again = attempt()
    assert [tables.read(again.table(name))["x"].to_pylist() for name in ("a", "b")] == [[1, 2], [1, 2]]
