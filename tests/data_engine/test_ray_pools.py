"""Pools of Ray workers: a model's own, within bounds; no worker's end loses or repeats a row; bytes stay outside."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from data_engine import probe, tables
from data_engine.media import MediaStore
from data_engine.recipe import Frames
from data_engine.runners import partition
from data_engine.runners.needs import MEDIA, MIB, OCR, Needs, checkpoint, together
from data_engine.runners.partition import RunnerError, Work
from data_engine.runners.ray_cluster import bound, room
from tests.data_engine import sft_corpus
from tests.data_engine.ray_cluster import free_port
from tests.data_engine.spark_cluster import JOB

BIG = {"CPU": 8.0, "memory": 5000.0 * MIB, "object_store_memory": 100.0 * MIB}
SMALL = {"CPU": 1.0, "memory": 9000.0 * MIB, "object_store_memory": 100.0 * MIB}


def silent(done: int, total: int) -> None:
    pass


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*.parquet"))
        if file.parent.name != "_in"
    }


@pytest.fixture
def numbers(tmp_path: Path) -> list[Path]:
    """Six parts of two numbers."""
    return tables.write_partitions(pa.table({"x": list(range(12))}), tmp_path / "in", 2)


class Media:
    """Real films and pictures in a store, and the work that probes them."""

    def __init__(self, corpora: Any, root: Path) -> None:
        self.store, self.root = root / "media", root
        store = MediaStore(self.store)
        pictures = sorted((corpora / "stamps").rglob("*.png"))[:90]
        films = [corpora / "video/vtest.avi"]
        self.bytes = sum(path.stat().st_size for path in [*pictures, *films])
        keys = {store.put_file(path): "image" for path in pictures} | {store.put_file(path): "video" for path in films}
        self.listing = pa.table({"key": sorted(keys), "kind": [keys[key] for key in sorted(keys)]})

    def work(self, out: Path) -> Work:
        return partial(probe.probe_partition, store=self.store, frames=out / "frames", config=Frames())

    def expected(self, out: Path, listing: pa.Table, size: int) -> dict[str, str]:
        parts = tables.write_partitions(listing, out / "_in", size)
        partition.run("local", self.work(out), parts, out, silent)
        return digests(out)


@pytest.fixture(scope="module")
def media(corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> Media:
    return Media(corpora, tmp_path_factory.mktemp("media"))


def pool_of(needs: Needs, parts: list[Path], out: Path) -> dict[int, int]:
    """The processes that a run used: how often each loaded what stands for its model."""

    def work(table: pa.Table) -> dict[str, pa.Table]:
        loaded = os.environ.get("LOADED", "")
        os.environ["LOADED"] = loaded or "once"
        return {"out": pa.table({"pid": [os.getpid()], "loads": [int(not loaded)]})}

    partition.run("ray", work, parts, out, silent, needs)
    loads: dict[int, int] = {}
    for row in tables.rows(out / "out"):
        loads[row["pid"]] = loads.get(row["pid"], 0) + row["loads"]
    return loads


@pytest.mark.usefixtures("ray")
def test_a_models_pool_ends_with_its_step_and_general_workers_stay(numbers: list[Path], tmp_path: Path) -> None:
    """Each process of a pool loads its model once; a pool takes the place of the one before."""
    first, again, ocr, other = (
        pool_of(needs, numbers, tmp_path / name)
        for name, needs in {"1": MEDIA, "2": MEDIA, "3": OCR, "4": Needs(("other",))}.items()
    )
    assert set(again) <= set(first) and not any(again.values())
    assert set(ocr.values()) == set(other.values()) == {1}
    assert set(first).isdisjoint(ocr) and set(ocr).isdisjoint(other)
    gone = [psutil.Process(pid) for pid in {*first, *ocr, *other} if psutil.pid_exists(pid)]
    assert not psutil.wait_procs(gone, timeout=60)[1]


def test_the_smaller_of_cores_and_memory_bounds_a_pool() -> None:
    assert room([BIG, SMALL], Needs(memory=1000 * MIB)) == 5 + 1
    assert room([BIG, SMALL], Needs(cpus=2, memory=1000 * MIB)) == 4
    line = bound([BIG, SMALL], Needs(("OCR",), memory=1000 * MIB), 6)
    assert line == "Ray, OCR: 6 x 1,000 MiB + object store 200 MiB = 6,200 MiB at most, of 14,200 MiB on 2 machines"


def test_a_worker_that_fits_nowhere_is_refused(ray: Any, numbers: list[Path], tmp_path: Path) -> None:
    """By the real cluster's resources; here no single machine has both, though together they have."""
    with pytest.raises(
        RunnerError, match=r"needs 2 CPU and 6,000 MiB, and none of 2 machines has both \(at most 8 CPU"
    ):
        room([BIG, SMALL], Needs(cpus=2, memory=6000 * MIB))
    with pytest.raises(RunnerError, match=r"a worker for huge needs 1 CPU and .* add a larger one"):
        partition.run("ray", lambda table: {}, numbers, tmp_path, silent, Needs(("huge",), memory=1 << 50))


def test_a_pools_bound_is_said_before_it_works(
    ray: Any, numbers: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pool_of(Needs(("said",), memory=300 * MIB), numbers, tmp_path)
    workers = min(len(numbers), int(ray.cluster_resources()["CPU"]))
    assert f"Ray, said: {workers} x 300 MiB + object store 256 MiB = " in capfd.readouterr().err


def test_needs_add_up_by_model(tmp_path: Path) -> None:
    (tmp_path / "towers").mkdir()
    (tmp_path / "towers/model.safetensors").write_bytes(bytes(3 * MIB))
    towers = checkpoint(str(tmp_path / "towers"))
    assert towers == Needs(("towers",), memory=1027 * MIB)
    assert together([MEDIA, towers, OCR, towers]) == Needs(("towers", "OCR"), memory=towers.memory + OCR.memory)
    assert together([MEDIA, MEDIA]) == MEDIA


def test_where_no_cluster_is_one_line_says_so(corpora: Any, tmp_path: Path) -> None:
    """Within seconds, and as the command's exit code 2: a process of its own, for Ray is started once in each."""
    address = f"127.0.0.1:{free_port()}"
    recipe = sft_corpus.write(tmp_path / "rows", sft_corpus.problems(corpora), "sft")
    command = [sys.executable, str(JOB), str(recipe), "--out", str(tmp_path / "run"), "--runner", "ray"]
    environment = os.environ | {"RAY_ADDRESS": address}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(f"RAY_ADDRESS={address}: no cluster to be reached there .*refused.*\n", done.stderr)


def stored(ray: Any) -> int:
    """Bytes that were ever put into the object store."""
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    state = get_state_from_address(ray.get_runtime_context().gcs_address)
    found: int = get_memory_info_reply(state).store_stats.cumulative_created_bytes
    return found


def test_media_go_through_and_the_object_store_stays_empty(ray: Any, media: Media, tmp_path: Path) -> None:
    """More than ten megabytes of files, a hundred of pixels; what Ray keeps of it is the paths."""
    parts = tables.write_partitions(media.listing, tmp_path / "_in", 10)
    before = stored(ray)
    partition.run("ray", media.work(tmp_path), parts, tmp_path, silent)
    assert media.bytes > 10 * MIB
    assert 0 < stored(ray) - before < 100_000
    assert digests(tmp_path) == media.expected(tmp_path / "local", media.listing, 10)


def shot() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dismissed() -> None:
    """As by `ray.kill` from anywhere: the process works on until it is ended."""
    import ray

    ray.kill(ray.get_runtime_context().current_actor)
    threading.Event().wait()


@pytest.mark.parametrize("end", [shot, dismissed])
@pytest.mark.usefixtures("ray")
def test_a_worker_that_ends_in_mid_run_changes_no_byte(end: Callable[[], None], media: Media, tmp_path: Path) -> None:
    """Two of them, each in the middle of a part: its files are there, its tables not."""
    pictures = media.listing.filter(pc.equal(media.listing["kind"], "image"))
    doomed, inner = {pictures["key"][row].as_py() for row in (0, 30)}, media.work(tmp_path)

    def work(table: pa.Table) -> dict[str, pa.Table]:
        done = inner(table)
        for key in doomed & set(table["key"].to_pylist()):
            if not (tmp_path / key).exists():
                (tmp_path / key).touch()
                end()
        return done  # type: ignore[return-value]

    parts = tables.write_partitions(pictures, tmp_path / "_in", 10)
    partition.run("ray", work, parts, tmp_path, silent)
    assert all((tmp_path / key).exists() for key in doomed)
    assert digests(tmp_path) == media.expected(tmp_path.with_name("local"), pictures, 10)


@pytest.mark.usefixtures("ray")
def test_what_ends_every_worker_is_found_and_set_aside(media: Media, tmp_path: Path) -> None:
    """One picture of ten ends the process; it alone is missing, with its reason, and nothing else is changed."""
    pictures = media.listing.filter(pc.equal(media.listing["kind"], "image")).slice(0, 10)
    poison, inner = pictures["key"][6].as_py(), media.work(tmp_path)

    def work(table: pa.Table) -> dict[str, pa.Table]:
        if poison in table["key"].to_pylist():
            os.kill(os.getpid(), signal.SIGSEGV)
        return inner(table)  # type: ignore[return-value]

    parts = tables.write_partitions(pictures, tmp_path / "_in", 5)
    partition.run("ray", work, parts, tmp_path, silent, blame=probe.unreadable)
    rest = pictures.filter(pc.not_equal(pictures["key"], poison))
    media.expected(tmp_path / "local", rest, 5)
    assert tables.read(tmp_path / "media") == tables.read(tmp_path / "local/media")
    assert tables.rows(tmp_path / "bad") == [{"key": poison, "reason": "ends every process that opens it"}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_done", "_in", "bad", "local", "media"]


@pytest.mark.usefixtures("ray")
def test_a_part_that_ends_every_worker_is_named(numbers: list[Path], tmp_path: Path) -> None:
    """Where no row can be blamed: after the others are done."""

    def work(table: pa.Table) -> dict[str, pa.Table]:
        if table["x"][0].as_py() == 4:
            os.kill(os.getpid(), signal.SIGSEGV)
        return {"out": table}

    with pytest.raises(
        RunnerError, match=r"part-00002.parquet: ended 3 workers for general work, the last with: Worker"
    ):
        partition.run("ray", work, numbers, tmp_path / "run", silent)
    assert tables.read(tmp_path / "run/out")["x"].to_pylist() == [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]


@pytest.mark.usefixtures("ray")
def test_what_the_work_raises_is_raised_as_it_is(numbers: list[Path], tmp_path: Path) -> None:
    def work(table: pa.Table) -> dict[str, pa.Table]:
        raise RunnerError(f"row {table['x'][0]}: no such thing")

    with pytest.raises(RunnerError, match=r"^row \d+: no such thing$"):
        partition.run("ray", work, numbers, tmp_path / "run", silent)


@pytest.mark.usefixtures("ray")
def test_after_an_interrupt_no_worker_goes_on_and_the_next_run_does(numbers: list[Path], tmp_path: Path) -> None:
    """Ctrl-C when two parts are done; the others wait for what never comes."""
    out = tmp_path / "run"
    (tmp_path / "pids").mkdir()

    def work(table: pa.Table) -> dict[str, pa.Table]:
        (tmp_path / "pids" / str(os.getpid())).touch()
        if table["x"][0].as_py() >= 4 and not (tmp_path / "go").exists():
            threading.Event().wait()
        return {"out": table}

    def interrupt(done: int, total: int) -> None:
        if done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        partition.run("ray", work, numbers, out, interrupt)
    workers = [int(path.name) for path in (tmp_path / "pids").iterdir()]
    gone = [psutil.Process(pid) for pid in workers if psutil.pid_exists(pid)]
    assert workers and not psutil.wait_procs(gone, timeout=60)[1]
    done = {path: path.stat().st_ino for path in (out / "out").iterdir()}
    (tmp_path / "go").touch()
    partition.run("ray", work, numbers, out, silent)
    assert tables.read(out / "out")["x"].to_pylist() == list(range(12))
    assert {path: path.stat().st_ino for path in done} == done and len(done) == 2
