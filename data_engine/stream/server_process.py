"""I/O servers as processes of this machine.

All are forked from one process that has imported what the work needs, does nothing else and has no threads: imports are
paid and held in memory once, a dead server is replaced in milliseconds, and the consumer itself, with its threads and
its GPU, is never forked. None of them outlives the consumer: they end when the socket to it closes.
"""

import gc
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import wait
from typing import Any, NoReturn

from data_engine.stream.messages import Answer, Message, answer, load, portable, receive, send

START = "from data_engine.stream.server_process import nursery; nursery()"


class Died(Exception):
    """A server ended; the message says how."""


class Process:
    """One server. It answers in the order it is asked in; its first answer, to nothing, says that it has begun."""

    def __init__(self, processes: "Processes", channel: socket.socket) -> None:
        self.processes, self.channel, self.pid = processes, channel, 0
        self.fileno = channel.fileno

    @property
    def name(self) -> str:
        return f"process {self.pid}" if self.pid else "a process not yet begun"

    def ask(self, request: Any) -> None:
        with suppress(ConnectionError):  # that it is dead is seen where its answer is waited for
            send(self.channel, request)

    def take(self) -> Answer:
        """The next answer; waits for it. Raises Died."""
        try:
            message = receive(self.channel)
        except EOFError:
            raise Died(self.processes.ending(self.pid)) from None
        found: Answer = load(message)
        if not self.pid and found.error is None:
            self.pid = found.value
        return found

    def end(self) -> None:
        """Kills it and what it has started, whatever it is at."""
        self.channel.close()
        with suppress(ProcessLookupError):
            if self.pid:
                os.killpg(self.pid, signal.SIGKILL)


class Processes:
    """Starts servers of one work."""

    def __init__(self, work: bytes, servers: int) -> None:
        self.servers = servers
        self.work = os.memfd_create("work")
        with os.fdopen(os.dup(self.work), "wb") as file:
            file.write(work)
        self.endings: dict[int, str] = {}
        self._open()

    def _open(self) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self.nursery = subprocess.Popen(
            [sys.executable, "-P", "-c", START, str(theirs.fileno()), str(self.work)],
            pass_fds=(theirs.fileno(), self.work),
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": here, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            process_group=0,  # Ctrl-C is for the consumer, which ends its servers
        )
        theirs.close()

    def start(self) -> Process:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if self.nursery.poll() is not None:
            self.channel.close()
            self._open()
        with theirs, suppress(ConnectionError):
            socket.send_fds(self.channel, [b"+"], [theirs.fileno()])
        return Process(self, ours)

    def wait(self, servers: Sequence[Process], timeout: float | None) -> list[Process]:
        """Those that have answered or ended."""
        return wait(servers, timeout)  # type: ignore[arg-type, return-value]

    def ending(self, pid: int) -> str:
        """How a server ended that has."""
        self.channel.settimeout(5)
        with suppress(OSError, EOFError):
            while pid and pid not in self.endings:
                ended, status = load(receive(self.channel))
                code = os.waitstatus_to_exitcode(status)
                self.endings[ended] = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        return self.endings.pop(pid, "ended before it had begun")

    def close(self) -> None:
        self.channel.close()
        os.close(self.work)
        with suppress(
            subprocess.TimeoutExpired
        ):  # one that waits for a broken disk cannot be killed before that answers
            self.nursery.wait(5)


def nursery() -> NoReturn:
    """Forks a server for each socket that is sent, and tells how servers ended."""
    channel, work = socket.socket(fileno=int(sys.argv[1])), _read(int(sys.argv[2]))
    channel.set_inheritable(False)
    with suppress(Exception):  # here only for what it imports: a server loads its own, and says what is wrong with it
        pickle.loads(work)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, partial(_report, channel))
    with suppress(EOFError):
        while True:
            _, files = receive(channel)
            if os.fork() == 0:
                channel.close()
                _serve(socket.socket(fileno=files[0]), work)
            os.close(files[0])
    with suppress(ChildProcessError):
        while True:
            os.wait()
    os._exit(0)


def _read(file: int) -> bytes:
    os.lseek(file, 0, os.SEEK_SET)
    with os.fdopen(file, "rb") as opened:
        return opened.read()


def _report(channel: socket.socket, *_: object) -> None:
    with suppress(ChildProcessError, OSError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            send(channel, (pid, status))


def _serve(channel: socket.socket, work: bytes) -> NoReturn:
    """Answers until the consumer is gone."""
    try:
        os.setpgid(0, 0)  # so that what it starts ends with it
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        requests: queue.SimpleQueue[Message] = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(channel, requests), daemon=True).start()
        begun = answer(pickle.loads, work)
        send(channel, replace(begun, value=os.getpid()))
        while True:
            message = requests.get()
            done = answer(lambda message: begun.value(load(message)), message)
            try:
                send(channel, done)
            except Exception as error:
                send(channel, replace(done, value=None, error=portable(error)))
            del done
    finally:
        os._exit(1)


def _listen(channel: socket.socket, requests: queue.SimpleQueue[Message]) -> None:
    """Takes requests in while the work is at another: the consumer never waits to ask, and its end is never missed."""
    with suppress(EOFError):
        while True:
            requests.put(receive(channel))
    os.killpg(0, signal.SIGKILL)
