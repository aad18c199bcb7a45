"""Training processes without their start-up: a server that has everything imported forks them.

Started as `python -m tests.train.forked`; each line it reads asks for one run (`Run` as JSON), each line it writes
says how its processes ended. The processes are real, and so are the signals that kill them: all of a run at once.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from train.stages import Stage

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Run:
    """One stage's run, and when it is killed, if at all.

    `after_row`: when the first process has written that row of metrics. `at_touch`: at that touch of a checkpoint on
    disk (a file opened, a folder made, something renamed or removed). `at_partial`: as soon as another process sees
    a half checkpoint, wherever the run is by then. `touches`: a file that gets their number. `again`: instead of
    training, loads the last checkpoint and writes it to this folder.
    """

    recipe: str
    data: str
    world_size: int = 1
    after_row: int | None = None
    at_touch: int | None = None
    at_partial: bool = False
    touches: str | None = None
    again: str | None = None


class Forks:
    """The server, from outside."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tests.train.forked"]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=environment, cwd=ROOT, text=True, **pipes)

    def run(self, run: Run) -> list[int]:
        """The exit codes of the run's processes; negative: the signal that killed one."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(asdict(run)) + "\n")
        self.process.stdin.flush()
        codes: list[int] = json.loads(self.process.stdout.readline())
        return codes

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def serve() -> None:
    import train.run
    import train.start  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        run = Run(**json.loads(line))
        answers.write(json.dumps(_run(run)) + "\n")
        answers.flush()


def _run(run: Run) -> list[int]:
    """Forks a run's processes into one group and waits for them; when one fails the others go too."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children: list[int] = []
    for rank in range(run.world_size):
        if not (child := os.fork()):
            _child(run, rank, children, port)
        children.append(child)
        os.setpgid(child, children[0])
    if run.at_partial and _saw_partial(Path(run.data), children[0]):
        os.killpg(children[0], signal.SIGKILL)
    codes: dict[int, int] = {}
    while len(codes) < len(children):
        child, status = os.waitpid(-children[0], 0)
        codes[child] = os.waitstatus_to_exitcode(status)
        if codes[child]:
            for other in set(children) - set(codes):
                os.kill(other, signal.SIGKILL)
    return [codes[child] for child in children]


def _child(run: Run, rank: int, before: list[int], port: int) -> None:
    code = 1
    try:
        os.setpgid(0, before[0] if before else 0)
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(run.world_size))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        _train(run, rank)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _train(run: Run, rank: int) -> None:
    from train.run import train
    from train.stages import load_stage

    stage = load_stage(Path(run.recipe))
    if run.again:
        _write_again(stage, Path(run.data), Path(run.again))
        return
    if rank == 0:
        _kill_after_row(run)
        _kill_at_touch(run)
    train(stage, Path(run.data), console=Console(quiet=True))


def _write_again(stage: Stage, data: Path, folder: Path) -> None:
    """The last checkpoint, loaded by these processes and saved by them."""
    from train.checkpoint import checkpoints, read_state
    from train.engine import Engine, start_processes
    from train.start import save_model, start

    processes = start_processes()
    begun = start(stage, data)
    engine = Engine(begun.model, stage, processes)
    found = checkpoints(data / "train" / stage.stage)[-1]
    engine.load(found)
    state = read_state(found) | {"processes": processes.world_size}
    engine.save(folder, state, lambda model: save_model(begun, stage, state["step"], model))


def _kill_after_row(run: Run) -> None:
    from train import record

    write = record.Metrics.write

    def write_and_die(self: record.Metrics, row: record.Row) -> None:
        write(self, row)
        if row["step"] == run.after_row:
            os.killpg(0, signal.SIGKILL)

    record.Metrics.write = write_and_die  # type: ignore[method-assign]


def _kill_at_touch(run: Run) -> None:
    """Python says what it is about to do to a file; what it did to the one before is done."""
    touches = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal touches
        if event in TOUCHES and ("/checkpoints/" in str(arguments[0]) or event in REMOVALS):
            touches += 1
            if run.touches:
                Path(run.touches).write_text(str(touches))
            if touches == run.at_touch:
                os.killpg(0, signal.SIGKILL)

    sys.addaudithook(hook)


REMOVALS = {"os.remove", "os.rmdir"}
TOUCHES = {"open", "os.mkdir", "os.rename", "shutil.rmtree", *REMOVALS}


def _saw_partial(data: Path, group: int) -> bool:
    """Whether a half checkpoint was there before any process of the group had ended."""
    while not list(data.glob("train/*/checkpoints/.step-*")):
        if os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
    return True


if __name__ == "__main__":
    serve()
