"""I/O servers: reading and decoding leave the consumer for other processes, and the order stays as it was.

Every server has up to `ahead` requests of its own and goes on with them while the consumer is at something else, so
there is neither a thread nor a queue in the consumer: all that is decided is decided while it waits for an answer.
"""

import pickle
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from data_engine.stream.messages import Answer
from data_engine.stream.server_process import DeadServerError, Processes

if TYPE_CHECKING:
    from data_engine.stream.server_actor import Actors

Q = TypeVar("Q")
R = TypeVar("R")

PATIENCE = 300  # seconds in which a server must have begun: a cluster may have to make room
WORK_AT_MOST = 64 << 20  # bytes of a pickled work


class ServerError(ValueError):
    """A request that no I/O server answered, or work that none can do: the message names it."""


def serve(
    work: Callable[[Q], R],
    requests: Iterator[Q],
    *,
    servers: int,
    kind: Literal["process", "ray"] = "process",
    ahead: int = 2,
    timeout: float = 120.0,
    attempts: int = 3,
    describe: Callable[[Q], str] = repr,
) -> Generator[R, None, None]:
    """`map(work, requests)`, done by `servers` other processes or Ray actors (0: in this process).

    `work` is pickled once and loaded by each server, so it must be importable there, and should hold paths of what is
    large, to be opened at first use. Results come in the order of the requests; what `work` or `requests` raises is
    raised at its place. At most `servers * ahead` results are under way or waiting.

    A server that has died, or has been at one request for `timeout` seconds, is killed and replaced, and what it was
    asked is asked again. Raises ServerError for a request, as `describe` calls it, that has ended `attempts` servers.
    """
    if not servers:
        yield from map(work, requests)
        return
    pool = _Pool(_starter(work, servers, kind), timeout, attempts, describe)
    try:
        pool.open()
        tasks = _tasks(requests)
        waiting = deque(map(pool.ask, islice(tasks, ahead * len(pool.places))))
        while waiting:
            while waiting[0].answer is None:
                pool.advance()
            done = waiting.popleft().answer
            waiting.extend(map(pool.ask, islice(tasks, 1)))
            assert done is not None
            yield done.result()
            del done  # of a large result there are only as many as said
    finally:
        pool.close()


@dataclass(slots=True)
class _Task:
    request: Any
    answer: Answer | None = None
    asked: float = 0.0
    attempts: int = 0


def _tasks(requests: Iterator[Any]) -> Iterator[_Task]:
    """Requests to be answered; what the iterator raises is an answer."""
    try:
        yield from map(_Task, requests)
    except Exception as error:
        yield _Task(None, Answer(error=error))


def _starter(work: Callable[[Any], Any], servers: int, kind: str) -> "Processes | Actors":
    pickled = pickle.dumps(work, 5)
    if len(pickled) > WORK_AT_MOST:
        raise ServerError(
            f"work for I/O servers pickles to {len(pickled) >> 20} MiB, and each would hold a copy: "
            "let it hold the path of what is large, and open that at first use"
        )
    if kind == "process":
        return Processes(pickled, servers)
    from data_engine.stream.server_actor import Actors

    return Actors(pickled, servers)


@dataclass(slots=True)
class _Place:
    """A server and what it is to do, the oldest first: that is what it is at. Of these `asked` have been sent to it.

    `free`: when it began or gave its last answer; None while it starts.
    """

    server: Any
    started: float = field(default_factory=time.monotonic)
    free: float | None = None
    tasks: deque[_Task] = field(default_factory=deque)
    asked: int = 0

    def ask(self, *tasks: _Task) -> None:
        """Sends on what it can. What was with a server as that ended is asked alone: so the next end is its own doing,
        and not that of a request behind it which ended the server before its answer was out.
        """
        self.tasks.extend(tasks)
        while self.asked < len(self.tasks) and not (self.asked and self.tasks[0].attempts):
            task = self.tasks[self.asked]
            task.asked = time.monotonic()
            self.server.ask(task.request)
            self.asked += 1

    def answered(self, answer: Answer) -> None:
        self.tasks.popleft().answer = answer
        self.asked -= 1
        self.ask()

    def deadline(self, timeout: float) -> float:
        if self.free is None:
            return self.started + PATIENCE
        return max(self.free, self.tasks[0].asked) + timeout if self.tasks else float("inf")


class _Pool:
    """The servers, and who has been asked what."""

    def __init__(
        self, starter: "Processes | Actors", timeout: float, attempts: int, describe: Callable[[Any], str]
    ) -> None:
        self.starter, self.timeout, self.attempts, self.describe = starter, timeout, attempts, describe
        self.places: list[_Place] = []
        self.failed_starts = 0

    def open(self) -> None:
        self.places = [_Place(self.starter.start()) for _ in range(self.starter.servers)]

    def ask(self, task: _Task) -> _Task:
        """Asks the server that has least to do; a task that has its answer is nobody's."""
        if task.answer is None:
            min(self.places, key=lambda place: len(place.tasks)).ask(task)
        return task

    def advance(self) -> None:
        """Waits for an answer, the end of a server, or a deadline, whichever comes first."""
        left = min(place.deadline(self.timeout) for place in self.places) - time.monotonic()
        by_server: dict[Any, _Place] = {place.server: place for place in self.places}
        ready = self.starter.wait(list(by_server), None if left == float("inf") else max(0.0, left))
        for server in ready:
            self._take(by_server[server])
        now = time.monotonic()
        for place in self.places:
            if not ready and place.deadline(self.timeout) <= now:
                self._replace(place, f"gave no answer in {PATIENCE if place.free is None else self.timeout:g} seconds")

    def _take(self, place: _Place) -> None:
        try:
            answer = place.server.take()
        except DeadServerError as death:
            self._replace(place, str(death))
            return
        if place.free is not None:
            place.answered(answer)
        elif answer.error is not None:
            raise ServerError(f"I/O servers cannot load the work: {answer.error}") from answer.error
        else:
            self.failed_starts = 0
        place.free = answer.at

    def _replace(self, place: _Place, how: str) -> None:
        """A new server; the request that the old one was at is asked again, unless it has ended too many."""
        name = place.server.name
        place.server.end()
        lost, place.tasks, place.asked = place.tasks, deque(), 0
        if place.free is None:
            self.failed_starts += 1
            if self.failed_starts > self.attempts * len(self.places):
                raise ServerError(f"I/O servers die as they start: {how}")
        elif lost:
            lost[0].attempts += 1
            if lost[0].attempts == self.attempts:
                task = lost.popleft()
                said = f"{self.describe(task.request)}: no I/O server of {self.attempts} answered"
                task.answer = Answer(error=ServerError(f"{said}; the last ({name}): {how}"))
        place.server, place.free, place.started = self.starter.start(), None, time.monotonic()
        place.ask(*lost)

    def close(self) -> None:
        for place in self.places:
            place.server.end()
        self.starter.close()
