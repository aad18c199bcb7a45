"""The sending of requests: one lane per teacher, so many in flight, tried again with back-off."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from data_engine.teachers.counts import Tally
from data_engine.teachers.errors import TeacherError
from data_engine.teachers.recipe import Teacher
from data_engine.teachers.remote import Reply, ReplyError
from data_engine.teachers.request import Answer, Failure, Request, settings

MAX_WAIT = 60.0
DOWN_AFTER = 20
"""So many requests in a row without an answer, each tried to the end: the teacher is down, and the run ends."""
RETRY_TEMPERATURE = 0.3
"""A reply that was no use is asked for again with another seed; greedy decoding would give it once more."""

Send = Callable[[Request, int, float], Awaitable[Reply]]


@dataclass(slots=True, eq=False)
class Job:
    """A request to one teacher. `twin`: the same request, already on its way, whose outcome is this one's too."""

    request: Request
    teacher: Teacher
    key: bytes
    outcome: Answer | Failure | None = None
    twin: "Job | None" = None

    @property
    def done(self) -> bool:
        return (self.twin or self).outcome is not None


class Rate:
    """When the next request may be sent: evenly spaced at the teacher's rate divided by the number of processes
    (after a pause, up to a second's worth at once), and not before the time that the server asked for.
    """

    def __init__(self, teacher: Teacher, workers: int) -> None:
        per_minute = teacher.requests_per_minute
        self._interval = 60.0 * workers / per_minute if per_minute else 0.0
        self._next = self._not_before = 0.0
        self.is_free = not per_minute

    def hold(self, seconds: float) -> None:
        """The server asked to be left alone for so long."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)
        self.is_free = False

    def wait(self) -> float:
        """Seconds until the request may be sent; its place is taken."""
        now = time.monotonic()
        self._next = max(self._next, now - 1.0)
        place, self._next = self._next, self._next + self._interval
        return max(0.0, place - now, self._not_before - now)


class Control(Protocol):
    """What a lane asks and tells of the run as a whole."""

    def may_send(self) -> None:
        """Raises what ends the run."""

    def spent(self, teacher: Teacher, prompt_tokens: int, completion_tokens: int) -> None:
        """Told of every reply, of use or not."""

    def finished(self, job: Job) -> None:
        """Told of every job that has its outcome."""

    async def pause(self, seconds: float) -> None:
        """Waits, but no longer than the run lasts."""


class Lane:
    """One teacher's requests: who appends to `queue` calls `wake`."""

    def __init__(
        self, teacher: Teacher, send: Send, parse: Callable[[str], Any] | None, workers: int, tally: Tally,
        control: Control,
    ) -> None:  # fmt: skip
        self.teacher, self.tally = teacher, tally
        self.queue: deque[Job] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._send, self._parse, self._control = send, parse, control
        self._rate = Rate(teacher, workers)
        self._failed_in_a_row = 0
        self._due: dict[asyncio.Task[Any], float] = {}
        self._overdue: set[asyncio.Task[Any]] = set()
        self._now, self._tick = 0.0, min(1.0, teacher.timeout / 8)
        self._closed = False
        self._usual = settings(Request(()), teacher)

    def settings(self, request: Request) -> bytes:
        """`request.settings`, made once for all requests that leave them to the teacher."""
        if request.max_tokens is request.temperature is request.seed is None:
            return self._usual
        return settings(request, self.teacher)

    def wake(self) -> None:
        """Sends an idle worker to the queue."""
        if self._idle and self.queue:
            self._idle.popleft().set_result(None)

    def close(self) -> None:
        """Workers end when they have finished the request they have sent."""
        self._closed = True
        while self._idle:
            self._idle.popleft().set_result(None)

    async def work(self) -> None:
        """Takes job after job. Raises what ends the run."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task
        while not self._closed:
            while self.queue and not self._closed:
                job = self.queue.popleft()
                job.outcome = await self._outcome(job, task)
                self._control.finished(job)
            if not self._closed:
                waiting = loop.create_future()
                self._idle.append(waiting)
                await waiting

    async def _outcome(self, job: Job, task: asyncio.Task[Any]) -> Answer | Failure:
        """The answer, or why there is none after all attempts. Raises TeacherError, BudgetError."""
        request, teacher = job.request, self.teacher
        seed = teacher.seed if request.seed is None else request.seed
        temperature = teacher.temperature if request.temperature is None else request.temperature
        for attempt in range(1, teacher.attempts + 1):
            if not self._rate.is_free and (wait := self._rate.wait()):
                await self._control.pause(wait)
            self._control.may_send()
            self._due[task] = self._now + teacher.timeout + self._tick
            try:
                reply = await self._send(request, seed, temperature)
                parsed = judged(reply, request, self._parse) if self._parse or request.choices else None
                return self._answer(reply, request, attempt, parsed)
            except ReplyError as error:
                trouble = error
            except asyncio.CancelledError:
                trouble = self._late(task)
            finally:
                del self._due[task]
            self._control.spent(teacher, *trouble.spent)
            if trouble.stop:
                raise TeacherError(f"teacher {teacher.name}: {trouble.reason}: {trouble.detail}")
            if not trouble.again or attempt == teacher.attempts:
                return self._failure(job, trouble, attempt)
            await self._back_off(trouble, attempt)
            seed, temperature = seed + 1, temperature or RETRY_TEMPERATURE
        raise AssertionError("a recipe has at least one attempt")

    def _answer(self, reply: Reply, request: Request, attempt: int, parsed: Any) -> Answer:
        teacher = self.teacher
        self._control.spent(teacher, reply.prompt_tokens, reply.completion_tokens)
        self._failed_in_a_row = 0
        self.tally.answered += 1
        return Answer(
            reply.text.strip() if request.choices else reply.text, teacher.name, teacher.shown_model,
            reply.prompt_tokens, reply.completion_tokens, reply.finish, reply.tokens if request.logprobs else None,
            reply.scores, attempt, False, request.id, parsed,
        )  # fmt: skip

    def _late(self, task: asyncio.Task[Any]) -> ReplyError:
        """The reason of a sending that `watch` cancelled; a cancellation of any other kind goes on."""
        if task not in self._overdue:
            raise asyncio.CancelledError
        self._overdue.discard(task)
        task.uncancel()
        return ReplyError("timed out", f"no answer within {self.teacher.timeout:g} s", again=True)

    async def watch(self) -> None:
        """Cancels what takes too long: one look at all, now and then, costs less than a timer for each."""
        loop = asyncio.get_running_loop()
        while True:
            self._now = loop.time()
            for task in [task for task, due in self._due.items() if due < self._now and task not in self._overdue]:
                self._overdue.add(task)
                task.cancel()
            await asyncio.sleep(self._tick)

    def _failure(self, job: Job, trouble: ReplyError, attempt: int) -> Failure:
        """Counts it. Raises TeacherError where it is one of many in a row, or where no server is there."""
        failed = self.tally.failed
        failed[trouble.reason] = failed.get(trouble.reason, 0) + 1
        self._failed_in_a_row += trouble.again and not any(trouble.spent)
        if trouble.reason == "unreachable":
            raise TeacherError(
                f"teacher {self.teacher.name}: no server answers in {attempt} attempts ({trouble.detail}); "
                f"see that {self.teacher.url} is up, and run again"
            )
        if self._failed_in_a_row >= DOWN_AFTER:
            raise TeacherError(
                f"teacher {self.teacher.name}: {DOWN_AFTER} requests in a row had no answer in {attempt} attempts "
                f"each ({trouble.reason}: {trouble.detail}); see that {self.teacher.url} is up, and run again"
            )
        return Failure(trouble.reason, trouble.detail, self.teacher.name, attempt, job.request.id)

    async def _back_off(self, trouble: ReplyError, attempt: int) -> None:
        """Waits: twice as long each time, at most a minute, of which a random share; or as the server asked."""
        retried = self.tally.retried
        retried[trouble.reason] = retried.get(trouble.reason, 0) + 1
        if trouble.wait is not None:
            self._rate.hold(min(trouble.wait, self.teacher.timeout))
        else:
            longest = min(MAX_WAIT, self.teacher.back_off * 2 ** (attempt - 1))
            await self._control.pause(longest * random.uniform(0.5, 1.0))


def judged(reply: Reply, request: Request, parse: Callable[[str], Any] | None) -> Any:
    """What `parse` makes of a reply. Raises ReplyError for one that it refuses, or that is none of the choices."""
    spent = (reply.prompt_tokens, reply.completion_tokens)
    if request.choices and reply.text.strip() not in request.choices:
        raise ReplyError("none of the choices", reply.text, again=True, spent=spent)
    try:
        return parse(reply.text) if parse else None
    except Exception as error:  # whatever the caller's code meets in a reply nobody foresaw
        detail = f"{reply.text[:120]!r}: {error}"
        raise ReplyError("malformed answer", detail, again=True, spent=spent) from error
