"""I/O servers, both kinds: the same results in the same order, whoever dies or hangs; nothing left behind."""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest

from data_engine import tables
from data_engine.runners import partition
from data_engine.stream.io_server import ServerError, serve
from tests.data_engine import served_work as works

ROOT = Path(__file__).parents[2]
Serve = Callable[..., Generator[Any, None, None]]


@pytest.fixture(params=["process", "ray"])
def served(request: pytest.FixtureRequest) -> Serve:
    if request.param == "ray":
        request.getfixturevalue("ray")
    return partial(serve, servers=2, kind=request.param)


@pytest.fixture
def processes() -> Serve:
    return partial(serve, servers=2)


def same(one: Any, other: Any) -> bool:
    """Equal in content, type and memory layout's shape."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape) == (other.dtype, other.shape) and bool((one == other).all())
    return bool(one == other)


def gone(pids: list[int]) -> bool:
    """Whether these processes end; waits until they have."""
    left = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return not psutil.wait_procs([process for process in left if process.status() != "zombie"], timeout=60)[1]


def test_real_pictures_come_as_they_would_without_servers(served: Serve, corpora: Any) -> None:
    paths = [str(path) for path in sorted((corpora / "stamps").rglob("*.png"))[:60]]
    expected = list(serve(works.decoded, iter(paths), servers=0))
    found = list(served(works.decoded, iter(paths)))
    assert len({one["pixels"].shape for one in found}) > 1
    assert same(found, expected)


@pytest.mark.usefixtures("ray")
@pytest.mark.timeout(120)
def test_workers_that_curation_kept_make_room(tmp_path: Path) -> None:
    """General workers hold all cores after their step, in case more comes; servers need them."""
    parts = tables.write_partitions(pa.table({"x": list(range(8))}), tmp_path / "in", 1)
    partition.run("ray", works.nothing, parts, tmp_path / "out", lambda done, total: None)
    assert list(serve(abs, iter([-1, -2]), servers=2, kind="ray")) == [1, 2]


def test_tensors_come_as_they_were(served: Serve) -> None:
    import torch

    (found,) = served(works.tensors, iter([300_000]))
    for name, tensor in works.tensors(300_000).items():
        assert torch.equal(found[name], tensor), name
        assert found[name].dtype == tensor.dtype
        found[name].add_(1)


def test_more_than_a_pipe_holds_goes_both_ways(served: Serve) -> None:
    arrays = [np.random.default_rng(seed).integers(0, 9, 700_000) for seed in range(6)]
    found = list(served(np.negative, iter(arrays)))
    assert same(found, [-array for array in arrays])
    found[0] += 1  # the consumer's own, to be written
    texts = ["x" * 3_000_000, "y"]
    assert list(served(str.upper, iter(texts))) == [text.upper() for text in texts]


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_more_is_asked_for_than_the_consumer_takes(served: Serve, ahead: int) -> None:
    asked = 0

    def requests() -> Iterator[int]:
        nonlocal asked
        for asked in range(1, 41):  # noqa: UP028 - the loop's variable is what is looked at
            yield asked

    for taken, result in enumerate(served(abs, requests(), ahead=ahead), start=1):
        assert result == taken
        assert asked == min(40, taken + 2 * ahead)


@pytest.mark.parametrize("how", ["kill", "exit"])
def test_dead_servers_are_replaced_and_nothing_is_lost_or_moved(served: Serve, how: str, tmp_path: Path) -> None:
    doomed = works.Doomed(tmp_path, {0: 1, 7: 2, 8: 1, 29: 2}, how)
    expected = [(number, np.full(50_000, number)) for number in range(30)]
    assert same(list(served(doomed, iter(range(30)))), expected)
    assert {int(path.name): path.stat().st_size for path in tmp_path.iterdir()} == doomed.numbers


def test_every_server_may_be_shot_at_any_time(processes: Serve, tmp_path: Path) -> None:
    results = processes(works.pid, iter(range(40)), ahead=3)
    found = []
    for number in range(40):
        found.append(next(results))
        if number % 5 == 0:
            with suppress(ProcessLookupError):  # shot before, when it had answered this already
                os.kill(found[-1], signal.SIGKILL)
    assert list(results) == [] and len(set(found)) >= 8


def test_a_request_that_ends_every_server_is_named_at_its_place(served: Serve, tmp_path: Path) -> None:
    results = served(works.Doomed(tmp_path, {6: 99}), iter(range(30)), describe="sample {}".format)
    assert [next(results)[0] for _ in range(6)] == list(range(6))
    with pytest.raises(ServerError, match=r"^sample 6: no I/O server of 3 answered; the last \(.*process \d+\): \S.*"):
        next(results)
    # Three that were asked nothing else; before these, a server may have taken answers to earlier requests with it, and
    # the end is first put down to the request whose answer was not out.
    assert 3 <= (tmp_path / "6").stat().st_size <= 6


def test_how_a_server_ended_is_said(processes: Serve, tmp_path: Path) -> None:
    for how, said in {"kill": "killed by SIGKILL", "exit": "exit code 7"}.items():
        (tmp_path / how).mkdir()
        with pytest.raises(ServerError, match=f"{said}$"):
            list(processes(works.Doomed(tmp_path / how, {0: 9}, how), iter([0]), attempts=1))


def test_a_hung_disk_ends_in_a_named_error(served: Serve, tmp_path: Path) -> None:
    """A FIFO that nobody writes to blocks in open(), and so does a child process of the work; all end."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "given").write_bytes(b"given")
    work = works.Reads(tmp_path)
    results = served(work, iter(["given", "fifo", "given"]), timeout=1, attempts=2)
    assert next(results) == b"given"
    with pytest.raises(ServerError, match=r"^'fifo': no I/O server of 2 answered; .* gave no answer in 1 seconds$"):
        next(results)
    assert gone([pid for pids in work.pids() for pid in pids[:1]])
    assert len({pids[0] for pids in work.pids()}) >= 3


def test_what_hangs_once_is_asked_again_of_another(processes: Serve, tmp_path: Path) -> None:
    """The second server that opens the FIFO finds a writer."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "given").write_bytes(b"given")
    work = works.Reads(tmp_path)

    def write_to_the_second() -> None:
        while len({pids[0] for pids in work.pids()}) < 3:
            threading.Event().wait(0.05)
        (tmp_path / "fifo").write_bytes(b"late")

    writer = threading.Thread(target=write_to_the_second)
    writer.start()
    found = list(processes(work, iter(["given", "fifo", "given", "given"]), timeout=2, attempts=50))
    writer.join()
    assert found == [b"given", b"late", b"given", b"given"]
    assert gone([pid for pids in work.pids() for pid in pids])


def test_errors_are_raised_as_they_are_at_their_place(served: Serve) -> None:
    for work, kind in ((works.refuse, ValueError), (works.refuse_strangely, (works.OddError, RuntimeError))):
        results = served(work, iter(range(20)))
        assert [next(results) for _ in range(5)] == list(range(5))
        with pytest.raises(kind, match="five is") as caught:
            next(results)
        assert caught.value.__cause__ is None and caught.value.__context__ is None
        assert "served_work.py" in "".join(getattr(caught.value, "__notes__", ["served_work.py"]))
        assert list(results) == []


def test_an_error_of_the_requests_comes_after_what_was_asked_before(served: Serve) -> None:
    def requests() -> Iterator[int]:
        yield from range(3)
        raise OSError("plan is broken")

    results = served(abs, requests())
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="plan is broken"):
        next(results)


def test_a_result_that_cannot_be_sent_is_an_error_of_its_request(served: Serve) -> None:
    results = served(works.unsendable, iter(range(9)))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(TypeError, match="cannot pickle"):
        next(results)


def test_work_that_cannot_be_loaded_is_refused(served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServerError, match="cannot load the work: no such index"):
        list(served(works.CannotLoad(), iter([1])))
    monkeypatch.setenv("CONSUMER", str(os.getpid()))
    with pytest.raises(ServerError, match="die as they start"):
        list(served(works.DiesAtLoad(), iter([1]), attempts=1))


def test_work_that_would_be_copied_at_large_is_refused(processes: Serve, tmp_path: Path) -> None:
    mapped = np.lib.format.open_memmap(tmp_path / "index.npy", "w+", np.uint8, (65 << 20,))
    with pytest.raises(ServerError, match=r"pickles to 65 MiB, and each would hold a copy: let it hold the path"):
        list(processes(partial(np.add, mapped), iter([1])))


def test_servers_fork_from_a_process_without_threads(processes: Serve) -> None:
    """Also where the work brings torch: what has no threads cannot leave a lock behind."""
    from train.feed.conversation import encode

    assert set(processes(partial(_threads_beside, encode), iter(range(4)))) == {(1, 1)}


def _threads_beside(_: object, request: object) -> tuple[int, int]:
    return works.threads(request)


def test_a_consumer_that_stops_early_leaves_no_process(served: Serve, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "given").write_bytes(b"given")
    work = works.Reads(tmp_path)
    results = served(work, iter(["given", "given", "given", "fifo", "fifo", "given"]))
    next(results)
    before = psutil.Process().children(recursive=True)
    results.close()
    assert gone([pids[0] for pids in work.pids()])
    if served.keywords["kind"] == "process":  # type: ignore[attr-defined]
        assert gone([process.pid for process in before if "server_process" in " ".join(_words(process))])


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_server_that_cannot_be_asked_to_end_is_killed(processes: Serve, tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(b"given")
    work = works.Stuck(tmp_path)
    with pytest.raises(ServerError, match=r"^'fifo': no I/O server of 1 answered; .* gave no answer in 1 seconds$"):
        list(processes(work, iter(["fifo"]), timeout=1, attempts=1))
    assert gone([pid for pids in work.pids() for pid in pids])


@pytest.mark.parametrize(("work_name", "kind"), [("Reads", "process"), ("Reads", "ray"), ("Stuck", "process")])
def test_a_killed_consumer_leaves_no_process(work_name: str, kind: str, tmp_path: Path) -> None:
    """SIGKILL while two servers hang in open(), or where they hear nothing: they end, and what the work had started."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "given").write_bytes(b"given")
    command = [sys.executable, "-m", "tests.data_engine.served_work", work_name, kind, str(tmp_path)]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    consumer = subprocess.Popen(command, cwd=ROOT, env=alone, stdout=subprocess.PIPE)
    assert consumer.stdout is not None
    assert [consumer.stdout.readline() for _ in range(2)] == [b"taken\n"] * 2
    work = works.Reads(tmp_path)
    while len(work.pids()) < 4:  # both hang, or are about to
        threading.Event().wait(0.05)
    below = [process.pid for process in psutil.Process(consumer.pid).children(recursive=True)]
    consumer.kill()
    consumer.wait()
    assert len({pids[0] for pids in work.pids()}) == 2
    assert gone([pid for pids in work.pids() for pid in pids])
    if kind == "process":  # a cluster that the consumer had started has daemons of its own, which take a minute
        assert gone(below)


def test_ctrl_c_is_the_consumers_alone(processes: Serve) -> None:
    results = processes(works.pid, iter(range(6)))
    first = next(results)
    assert os.getpgid(first) == first
    assert len(list(results)) == 5


def test_answers_need_no_room_in_shared_memory(processes: Serve) -> None:
    before = set(Path("/dev/shm").iterdir())
    results = processes(np.zeros, iter([4_000_000] * 4))
    next(results)
    assert set(Path("/dev/shm").iterdir()) <= before
    results.close()


def test_a_notebook_may_use_them(tmp_path: Path) -> None:
    """As code that comes from no file and guards no `__main__`, in a process with threads."""
    code = (
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "from data_engine.stream.io_server import serve\n"
        "print(list(serve(abs, iter([-1, 2]), servers=2)))\n"
    )
    done = subprocess.run([sys.executable], input=code, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout, done.stderr) == ("[1, 2]\n", "")


def test_work_of_main_is_refused_in_one_line() -> None:
    code = (
        "from data_engine.stream.io_server import serve\n"
        "def work(x): return x\n"
        "try: list(serve(work, iter([1]), servers=1))\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable], input=code, capture_output=True, text=True, cwd=ROOT, check=False)
    assert "I/O servers cannot load the work" in done.stdout and "work" in done.stdout, done.stderr
    assert pickle.loads(pickle.dumps(ServerError("x"))).args == ("x",)
