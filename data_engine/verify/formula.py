"""Formulas of one meaning, by math-verify in processes of their own: whatever a formula does to sympy, it ends in time.

math-verify keeps time by `signal.alarm`, which threads other than the main one cannot use, and which does not stop a
loop in C (9^9^9^9). So it runs without a clock in worker processes, and a worker that is late is killed.
"""

import atexit
import contextlib
import functools
import itertools
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from data_engine.verify import formula_plain
from data_engine.verify.formula_text import normal
from data_engine.verify.formula_worker import READY
from data_engine.verify.judgement import Judgement

SECONDS = 3.0
MEMORY_MB = 2048
START_SECONDS = 120.0
END_SECONDS = 1.0


class Formulas:
    """A pool of worker processes that compare formulas, each item within `seconds` and `memory_mb` of address space.

    Any number of threads may use one pool; a process forked from this one starts workers of its own. Workers start
    when they are first needed. Use it as a context, or `close` it.
    """

    def __init__(self, workers: int = 1, seconds: float = SECONDS, memory_mb: int = MEMORY_MB) -> None:
        if workers < 1 or seconds <= 0:
            raise ValueError(f"workers must be 1 or more and seconds above 0, not {workers} and {seconds:g}")
        self.seconds, self._workers, self._memory_mb = seconds, workers, memory_mb
        self._open()

    def _open(self) -> None:
        idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for _ in range(self._workers):
            idle.put(_Worker(self._memory_mb))
        self._idle, self._pid = idle, os.getpid()

    def judge(self, golds: str | Sequence[str], answers: str | Sequence[str]) -> Judgement:
        """Is one of the readings of an answer one of the `golds`, in any equivalent form? All of them together have
        `seconds`. Never raises for what either may hold.
        """
        pairs = list(itertools.product(_listed(golds), _listed(answers)))
        easy = [formula_plain.judge(gold, answer) for gold, answer in pairs]
        right = next((judgement for judgement in easy if judgement and judgement.right), None)
        hard = [(normal(gold), normal(answer)) for (gold, answer), known in zip(pairs, easy, strict=True) if not known]
        if right is None and hard:
            return self._asked(hard)
        return right or next((judgement for judgement in easy if judgement), Judgement(False, 0.0, "no answer"))

    def _asked(self, pairs: list[tuple[str, str]]) -> Judgement:
        if self._pid != os.getpid():
            self._open()
        worker = self._idle.get()
        try:
            said = worker.ask({"pairs": pairs, "seconds": self.seconds}, self.seconds)
        finally:
            self._idle.put(worker)
        right = bool(said.get("right"))
        return Judgement(right, float(right), said.get("why") or f"{'an' if right else 'no'} equivalent formula")

    def close(self) -> None:
        """Ends the workers; what another thread is judging right now is judged first."""
        if self._pid == os.getpid():
            for worker in [self._idle.get() for _ in range(self._workers)]:
                worker.end()
                self._idle.put(worker)

    def __enter__(self) -> "Formulas":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _listed(texts: str | Sequence[str]) -> Sequence[str]:
    return (texts,) if isinstance(texts, str) else texts


class _Worker:
    """One program that compares formulas, or none yet. Used by one thread at a time."""

    def __init__(self, memory_mb: int) -> None:
        self._memory_mb = memory_mb
        self._program: subprocess.Popen[bytes] | None = None
        self._child: int | None = None  # the forked process that answers; None until it says that it is ready
        self._read = b""

    def ask(self, item: dict[str, Any], seconds: float) -> dict[str, Any]:
        """What the program says of an item; `why` where it was late, or died of it twice (once may have been another's
        doing). Raises RuntimeError if no program can start.
        """
        started = time.monotonic()
        said = self._once(item, seconds)
        left = seconds - (time.monotonic() - started)
        return said or (self._once(item, left) if left > 0 else None) or {"why": "the formula ended its process"}

    def _once(self, item: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        """The answer; None where whoever should give it died."""
        program = self._started()
        deadline = time.monotonic() + seconds
        try:
            line = self._answered(program, json.dumps(item).encode() + b"\n", deadline)
        except BaseException:  # an interrupt: its answer, still to come, would be taken for the next item's
            self.end()
            raise
        if line.startswith(b"{"):
            said: dict[str, Any] = json.loads(line)
            self._child = None if "why" in said else self._child
            return said
        if line or not self._kill():  # another process is ready: this one died, with the item or before it
            self.end()
            return None
        return {"why": f"not judged within {item['seconds']:g} s"}

    def _answered(self, program: "subprocess.Popen[bytes]", question: bytes, deadline: float) -> bytes:
        assert program.stdin is not None
        try:
            program.stdin.write(question)
            program.stdin.flush()
        except OSError:
            return b""
        return self._line(deadline)

    def _kill(self) -> bool:
        """Ends the process that answers; False where the program is gone."""
        if self._program is None or self._program.poll() is not None or self._child is None:
            return False
        os.kill(self._child, signal.SIGKILL)
        self._child = None
        return True

    def _started(self) -> "subprocess.Popen[bytes]":
        """The program, with a process that is ready to answer."""
        if self._program is None or self._program.poll() is not None:
            self.end()
            command = [sys.executable, "-m", "data_engine.verify.formula_worker", str(self._memory_mb)]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            pipe = subprocess.PIPE
            self._program = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while self._child is None:
            line = self._line(deadline)
            if not line:
                self.end()
                raise RuntimeError("no process for formulas starts: is math-verify installed (keyeforge[cot])?")
            self._child = _process_id(line)  # None for a late answer of the one before
        return self._program

    def _line(self, deadline: float) -> bytes:
        """The next line without its end; empty where the program died or the deadline passed."""
        assert self._program is not None and self._program.stdout is not None
        pipe = self._program.stdout.fileno()
        ready = select.poll()
        ready.register(pipe, select.POLLIN | select.POLLHUP)
        while b"\n" not in self._read:
            if not ready.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return b""
            block = os.read(pipe, 65536)
            if not block:
                return b""
            self._read += block
        line, _, self._read = self._read.partition(b"\n")
        return line

    def end(self) -> None:
        """Ends the program and what it forked: they end with their input, or are killed."""
        program, child = self._program, self._child
        self._program, self._child, self._read = None, None, b""
        if program is None or program.stdin is None or program.stdout is None:
            return
        with contextlib.suppress(OSError):
            program.stdin.close()
        for process, kill in ((child, os.kill), (program.pid, os.killpg)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(END_SECONDS)
            if program.returncode is None and process is not None:
                with contextlib.suppress(ProcessLookupError):
                    kill(process, signal.SIGKILL)
        program.wait()
        program.stdout.close()


def _process_id(line: bytes) -> int | None:
    word, _, number = line.decode().partition(" ")
    return int(number) if word == READY else None


_lock = threading.RLock()


@functools.cache
def _default() -> Formulas:
    pool = Formulas(workers=max(1, min(4, os.cpu_count() or 1)))
    atexit.register(pool.close)
    return pool


def judge(golds: str | Sequence[str], answers: str | Sequence[str]) -> Judgement:
    """`Formulas.judge` by a pool that starts when it is first needed and ends with the program."""
    with _lock:
        pool = _default()
    return pool.judge(golds, answers)
