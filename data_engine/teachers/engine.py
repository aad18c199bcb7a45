"""The lanes of a pool and the loop they run in: in the caller's thread, while the caller waits for an answer."""

import asyncio
import time
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
"""Seconds that the loop goes on at most when the awaited answer is there: it runs for many answers at once."""
STALL = 0.005
"""Seconds of the caller's own work after which the loop looks at the connections in between."""


class _Loop(asyncio.SelectorEventLoop):
    """Its clock stands still while the caller works, so that no answer that lies there meanwhile counts as late."""

    _stood = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.left = time.monotonic()

    def time(self) -> float:
        return time.monotonic() - self._stood

    def stalled(self) -> float:
        """Seconds since it ran."""
        return time.monotonic() - self.left

    def run_forever(self) -> None:
        self._stood += self.stalled()
        try:
            super().run_forever()
        finally:
            self.left = time.monotonic()


class Engine:
    """See the module docstring: `put` takes requests, `outcome` runs the loop until one has been answered."""

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
        self._kept: list[bytes] = []
        self._loop = _Loop()
        self._awaited: Job | None = None
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        self._loop.run_until_complete(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What is in flight is waited for, and kept, unless the caller wants no more."""
        try:
            self._loop.run_until_complete(self._close(drop=kind is not None and not issubclass(kind, Exception)))
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()

    def put(self, request: Request) -> list[Job]:
        """A request's jobs, one for each teacher that answers it: done at once where the answer is known."""
        if self._loop.stalled() > STALL:
            self._loop.run_until_complete(_a_look())
        try:
            asked = content(request)
        except TypeError as error:
            return [self._unreadable(request, str(error))]
        return [self._job(request, teacher, asked) for teacher in self._pool.who(asked)]

    def _unreadable(self, request: Request, why: str) -> Job:
        teacher = self._pool.teachers[0]
        failure = Failure("not Unicode text", why, teacher.name, 0, request.id)
        tally = self._counts.of(teacher.name)
        tally.requests += 1
        tally.failed[failure.reason] = tally.failed.get(failure.reason, 0) + 1
        return Job(request, teacher, b"", failure)

    def _job(self, request: Request, teacher: Teacher, asked: bytes) -> Job:
        lane = self._lanes[teacher.name]
        lane.tally.requests += 1
        job = Job(request, teacher, cache_key(asked, lane.settings(request)))
        if self._cache is not None:
            job.twin = self._flying.get(job.key)
            if job.twin is None:
                job.outcome = self._known(self._cache, job)
            if job.twin or job.outcome:
                return job
            self._flying[job.key] = job
        lane.queue.append(job)
        lane.wake()
        return job

    def _known(self, cache: Cache, job: Job) -> Answer | None:
        """What the cache knows, if the caller's `parse` still takes it."""
        answer = cache.get(job.key)
        if answer is None:
            return None
        try:
            parsed = judged(Reply(answer.text, answer.finish, 0, 0), job.request, self._parse)
        except ReplyError:
            return None
        self._lanes[job.teacher.name].tally.cached += 1
        return replace(answer, teacher=job.teacher.name, id=job.request.id, parsed=parsed)

    def outcome(self, job: Job) -> Answer | Failure:
        """Waits for a job. Raises what ended the run, once all that was in flight has come in."""
        if job.twin is not None:
            return self._twins(job, self.outcome(job.twin))
        while job.outcome is None and self._error is None:
            self._awaited, self._enough = job, self._loop.create_future()
            self._loop.run_until_complete(self._enough)
            self._awaited = None
        if job.outcome is None:
            self._loop.run_until_complete(self._close(drop=False))
            if job.outcome is None:
                assert self._error
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

    # In the loop.

    async def _open(self) -> None:
        self._over = asyncio.Event()
        self._session = aiohttp.ClientSession(  # the lanes' widths are the limit, and they mind the time
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        for teacher in self._pool.teachers:
            tally = self._counts.of(teacher.name)
            self._lanes[teacher.name] = Lane(teacher, self._sender(teacher), self._parse, self._workers, tally, self)
        lanes = [lane for lane in self._lanes.values() for _ in range(_width(lane.teacher))]
        self._tasks = [self._loop.create_task(self._work(lane)) for lane in lanes]
        self._watches = [self._loop.create_task(lane.watch()) for lane in self._lanes.values()]

    def _sender(self, teacher: Teacher) -> Send:
        if teacher.url:
            return Remote(teacher, self._session, self._pictures).ask

        def send(request: Request, seed: int, temperature: float) -> Coroutine[Any, Any, Reply]:
            return asyncio.to_thread(in_process.ask, teacher, request, seed, temperature)

        return send

    async def _work(self, lane: Lane) -> None:
        try:
            await lane.work()
        except Exception as error:  # the first ends the run
            self._error = self._error or error
            self._return()

    async def _close(self, *, drop: bool) -> None:
        """Ends the lanes. May be called twice."""
        self._over.set()
        for lane in self._lanes.values():
            lane.close()
        for task in self._tasks if drop else ():
            task.cancel()
        await asyncio.wait(self._tasks)
        for watch in self._watches:
            watch.cancel()
        await asyncio.wait(self._watches)
        await self._session.close()
        self._flush()
        if self._spending is not None:
            self._spending.close()

    def may_send(self) -> None:
        """Raises what has ended the run, or BudgetError."""
        if self._error is not None:
            raise self._error
        if self._spending is not None:
            self._spending.check()

    def spent(self, teacher: Teacher, prompt_tokens: int, completion_tokens: int) -> None:
        """Counts the tokens of a reply and what they cost."""
        tally = self._lanes[teacher.name].tally
        cost = (prompt_tokens * teacher.prompt_price + completion_tokens * teacher.completion_price) / 1e6
        tally.prompt_tokens += prompt_tokens
        tally.completion_tokens += completion_tokens
        tally.cost += cost
        if self._spending is not None:
            self._spending.add(prompt_tokens + completion_tokens, cost)

    def finished(self, job: Job) -> None:
        """Keeps an answer, and ends the wait when the awaited one is there and few are left to send."""
        if self._cache is not None and isinstance(job.outcome, Answer):
            self._cache.put(job.key, job.outcome)
            if not self._kept:
                self._loop.call_soon(self._flush)
            self._kept.append(job.key)
        else:
            self._flying.pop(job.key, None)
        if self._awaited is not None and self._awaited.outcome is not None:
            if sum(len(lane.queue) for lane in self._lanes.values()) <= self._few:
                self._return()
            elif job is self._awaited:
                self._loop.call_later(LATEST, self._return)

    def _return(self) -> None:
        """Gives the caller its turn, if it waits."""
        if self._awaited is not None and not self._enough.done():
            self._enough.set_result(None)

    def _flush(self) -> None:
        """Once for all answers of one turn of the loop."""
        if self._cache is not None:
            self._cache.flush()
        for key in self._kept:
            self._flying.pop(key, None)
        self._kept.clear()

    async def pause(self, seconds: float) -> None:
        """Waits, but no longer than the run lasts."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)


async def _a_look() -> None:
    """A few turns of the loop: replies that lie there are read, and the next requests sent."""
    for _ in range(5):
        await asyncio.sleep(0)


def _width(teacher: Teacher) -> int:
    """Requests in flight: a folder's model answers one at a time."""
    return teacher.concurrency if teacher.url else 1
