"""The lanes of a pool on a thread of their own, so that answers arrive while the caller works."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import aiohttp

from data_engine.teachers import in_process
from data_engine.teachers.cache import Cache
from data_engine.teachers.counts import Counts
from data_engine.teachers.lanes import Job, Lane, Send, judged
from data_engine.teachers.pictures import Pictures
from data_engine.teachers.recipe import Pool, Teacher
from data_engine.teachers.remote import Remote, Reply, ReplyError
from data_engine.teachers.request import Answer, Failure, Request, cache_key, content
from data_engine.teachers.spending import Spending

WINDOW = 8
"""Requests known at a time, per request in flight: what memory holds, and how far a slow answer may hold up others."""
LATEST = 0.02
"""Seconds that a caller waits at most for an answer that is there: it is woken for many answers at once."""


class _EndedError(Exception):
    """The caller wants no more."""


class Engine:
    """See the module docstring. `put` and `outcome` are for the caller's thread, all else happens in the loop's."""

    def __init__(
        self, pool: Pool, pictures: Pictures | None, cache: Cache | None, spending: Spending | None,
        parse: Callable[[str], Any] | None, workers: int, counts: Counts,
    ) -> None:  # fmt: skip
        in_flight = sum(_width(teacher) for teacher in pool.teachers)
        self.room = WINDOW * in_flight
        self._few = (self.room - in_flight) // 2
        self._pool, self._pictures, self._cache, self._spending = pool, pictures, cache, spending
        self._parse, self._workers, self._counts = parse, workers, counts
        self._lanes: dict[str, Lane] = {}
        self._flying: dict[bytes, Job] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready, self._awake = threading.Event(), threading.Event()
        self._awaited: Job | None = None
        self._flushing = self._waking = False
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._fail(_EndedError())
        self._settle(drop=kind is not None and not issubclass(kind, Exception))
        self._loop.close()

    def put(self, request: Request) -> list[Job]:
        """A request's jobs, one for each teacher that answers it: done at once where the answer is known."""
        try:
            asked = content(request)
        except TypeError as error:
            failure = Failure("not Unicode text", str(error), self._pool.teachers[0].name, 0, request.id)
            tally = self._counts.of(failure.teacher)
            tally.requests += 1
            tally.failed[failure.reason] = tally.failed.get(failure.reason, 0) + 1
            return [Job(request, self._pool.teachers[0], b"", failure)]
        return [self._job(request, teacher, asked) for teacher in self._pool.who(asked)]

    def _job(self, request: Request, teacher: Teacher, asked: bytes) -> Job:
        lane = self._lanes[teacher.name]
        lane.tally.requests += 1
        job = Job(request, teacher, cache_key(asked, request, teacher))
        if self._cache is not None:
            job.twin = self._flying.get(job.key)
            if job.twin is None:
                job.outcome = self._known(self._cache, job)
            if job.twin or job.outcome:
                return job
            self._flying[job.key] = job
        lane.queue.append(job)
        if lane.idle:
            self._loop.call_soon_threadsafe(lane.wake)
        return job

    def _known(self, cache: Cache, job: Job) -> Answer | None:
        """What the cache knows, if the caller's `parse` still takes it."""
        answer = cache.get(job.key)
        if answer is None:
            return None
        reply = Reply(answer.text, answer.finish, 0, 0)
        try:
            parsed = judged(reply, job.request, self._parse)
        except ReplyError:
            return None
        self._lanes[job.teacher.name].tally.cached += 1
        return replace(answer, teacher=job.teacher.name, id=job.request.id, parsed=parsed)

    def outcome(self, job: Job) -> Answer | Failure:
        """Waits for a job. Raises what ended the run, once all that was in flight has come in."""
        if job.twin is not None:
            return self._twins(job, self.outcome(job.twin))
        while job.outcome is None:
            self._awake.clear()
            self._awaited = job
            if job.outcome is None and self._error is None:
                self._awake.wait()
            if self._error is not None:
                self._settle(drop=False)
                if job.outcome is None:
                    raise self._error
        return job.outcome

    def _twins(self, job: Job, outcome: Answer | Failure) -> Answer | Failure:
        """The outcome of the same request that was in flight when this one came."""
        tally = self._lanes[job.teacher.name].tally
        if isinstance(outcome, Answer):
            tally.cached += 1
            return replace(outcome, id=job.request.id, cached=True)
        tally.failed[outcome.reason] = tally.failed.get(outcome.reason, 0) + 1
        return replace(outcome, id=job.request.id)

    def _settle(self, *, drop: bool) -> None:
        """Ends the loop's thread: what is in flight is waited for, or dropped."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # the loop ended meanwhile
                self._loop.call_soon_threadsafe(self._close, drop)
            self._thread.join()

    # In the loop's thread.

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        except BaseException as error:
            self._fail(error)
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._over = asyncio.Event()
        connector = aiohttp.TCPConnector(limit=0)  # the lanes' widths are the limit
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            for teacher in self._pool.teachers:
                tally = self._counts.of(teacher.name)
                self._lanes[teacher.name] = Lane(
                    teacher, self._sender(teacher, session), self._parse, self._workers, tally, self
                )
            lanes = [lane for lane in self._lanes.values() for _ in range(_width(lane.teacher))]
            self._tasks = [self._loop.create_task(self._work(lane)) for lane in lanes]
            self._ready.set()
            await asyncio.wait(self._tasks)
        self._flush()

    def _sender(self, teacher: Teacher, session: aiohttp.ClientSession) -> Send:
        if teacher.url:
            return Remote(teacher, session, self._pictures).ask

        def send(request: Request, seed: int, temperature: float) -> Coroutine[Any, Any, Reply]:
            return asyncio.to_thread(in_process.ask, teacher, request, seed, temperature)

        return send

    async def _work(self, lane: Lane) -> None:
        try:
            await lane.work()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """The first error ends the run; whoever waits is told."""
        self._error = self._error or error
        self._awake.set()

    def _close(self, drop: bool) -> None:
        self._over.set()
        for lane in self._lanes.values():
            lane.close()
        if drop:
            for task in self._tasks:
                task.cancel()

    def may_send(self) -> None:
        """Raises what has ended the run, or BudgetError."""
        if self._error is not None:
            raise self._error
        if self._spending is not None:
            self._spending.check()

    def spent(self, teacher: Teacher, prompt_tokens: int, completion_tokens: int) -> None:
        """Counts the tokens of a reply and what they cost."""
        tally = self._lanes[teacher.name].tally
        cost = teacher.cost(prompt_tokens, completion_tokens)
        tally.prompt_tokens += prompt_tokens
        tally.completion_tokens += completion_tokens
        tally.cost += cost
        if self._spending is not None:
            self._spending.add(prompt_tokens + completion_tokens, cost)

    def finished(self, job: Job) -> None:
        """Keeps an answer, and wakes the caller when the one it waits for is there and few are left to send."""
        if self._cache is not None:
            if isinstance(job.outcome, Answer):
                self._cache.put(job.key, job.outcome)
                if not self._flushing:
                    self._flushing = True
                    self._loop.call_soon(self._flush)
            self._flying.pop(job.key, None)
        if self._awaited is not None and self._awaited.outcome is not None:
            if sum(len(lane.queue) for lane in self._lanes.values()) <= self._few:
                self._wake()
            elif not self._waking:
                self._waking = True
                self._loop.call_later(LATEST, self._wake)

    def _wake(self) -> None:
        self._waking = False
        self._awaited = None
        self._awake.set()

    def _flush(self) -> None:
        """Once for all answers of one turn of the loop."""
        self._flushing = False
        if self._cache is not None:
            self._cache.flush()

    async def pause(self, seconds: float) -> None:
        """Waits, but no longer than the run lasts."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)


def _width(teacher: Teacher) -> int:
    """Requests in flight: a folder's model answers one at a time."""
    return teacher.concurrency if teacher.url else 1
