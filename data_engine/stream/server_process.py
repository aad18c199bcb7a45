"""I/O servers as processes of this machine.

All are forked from one process that has imported what the work needs, does nothing else and has no threads: imports are
paid and held in memory once, a dead server is replaced in milliseconds, and the consumer itself, with its threads and
its GPU, is never forked. None of them outlives the consumer: when the socket to it closes, that one process ends them
all, and each also ends itself.
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
from pathlib import Path
from typing import Any, NoReturn

from data_engine.stream.messages import Answer, Message, answer, load, portable, receive, send

START = "from data_engine.stream.server_process import nursery; nursery()"

NO_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Libraries that start threads as they are imported are told not to, by environment variables: a fork has none."""


class DeadServerError(Exception):
    """A server has ended; the message says how."""


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
        """The next answer; waits for it. Raises DeadServerError."""
        try:
            message = receive(self.channel)
        except EOFError:
            raise DeadServerError(self.processes.ending(self.pid)) from None
        found: Answer = load(message)
        if not self.pid and found.error is None:
            self.pid = found.value
        return found

    def end(self) -> None:
        """Kills it and what it has started, whatever it is at."""
        self.channel.close()
        if self.pid:
            self.processes.kill(self.pid)


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
        here = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        self.nursery = subprocess.Popen(
            [sys.executable, "-P", "-c", START, str(theirs.fileno()), str(self.work)],
            pass_fds=(theirs.fileno(), self.work),
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": here, **NO_THREADS},
            process_group=0,  # Ctrl-C is for the consumer, which ends its servers
        )
        theirs.close()

    def start(self) -> Process:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if self.nursery.poll() is not None:
            self.channel.close()
            self._open()
        self._hear(0)  # its reports would fill the socket in the end
        with theirs, suppress(ConnectionError):
            socket.send_fds(self.channel, [b"+"], [theirs.fileno()])
        return Process(self, ours)

    def kill(self, pid: int) -> None:
        """By way of its parent, for whom alone the number is sure to be that server's still."""
        with suppress(ConnectionError):
            send(self.channel, pid)

    def wait(self, servers: Sequence[Process], timeout: float | None) -> list[Process]:
        """Those that have answered or ended."""
        return wait(servers, timeout)  # type: ignore[arg-type, return-value]

    def ending(self, pid: int) -> str:
        """How a server ended that has."""
        while pid and pid not in self.endings and self._hear(5):
            pass
        return self.endings.pop(pid, "ended before it had begun")

    def _hear(self, seconds: float) -> bool:
        """Takes in how servers ended: all there is, or with `seconds` one report that is waited for. Whether any came.

        What is kept of servers that nobody asks about is a few bytes each.
        """
        heard = False
        while wait([self.channel], 0 if heard else seconds):
            try:
                pid, status = load(receive(self.channel))
            except EOFError:
                break
            code = os.waitstatus_to_exitcode(status)
            self.endings[pid] = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
            heard = True
        return heard

    def close(self) -> None:
        self.channel.close()
        os.close(self.work)
        with suppress(subprocess.TimeoutExpired):  # what waits for a broken disk cannot be killed before that answers
            self.nursery.wait(5)


def nursery() -> NoReturn:
    """Forks a server for each socket that is sent, kills one for each number, and tells how servers ended."""
    channel, work = socket.socket(fileno=int(sys.argv[1])), _read(int(sys.argv[2]))
    channel.set_inheritable(False)
    with suppress(Exception):  # here only for what it imports: a server loads its own, and says what is wrong with it
        pickle.loads(work)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, partial(_report, channel))
    servers: set[int] = set()
    with suppress(EOFError):
        while True:
            data, files = receive(channel)
            if not files:
                _kill(load((data, [])))
                continue
            server = os.fork()
            if not server:
                channel.close()
                _serve(socket.socket(fileno=files[0]), work)
            os.close(files[0])
            servers.add(server)
    for server in servers:
        _kill(server)
    with suppress(ChildProcessError):
        while True:
            os.wait()
    os._exit(0)


def _kill(server: int) -> None:
    """A server of this process and what it has started; nobody, if it has ended: its number may be another's by now."""
    with suppress(ChildProcessError, ProcessLookupError):
        os.waitid(os.P_PID, server, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        os.kill(server, signal.SIGKILL)
        os.killpg(server, signal.SIGKILL)


def _read(file: int) -> bytes:
    os.lseek(file, 0, os.SEEK_SET)
    with os.fdopen(file, "rb") as opened:
        return opened.read()


def _report(channel: socket.socket, *_: object) -> None:
    """Tells of each server that has ended, and ends what it had started."""
    with suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            _kill(ended.si_pid)
            told = os.waitpid(ended.si_pid, 0)
            with suppress(OSError):
                send(channel, told)


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
