"""Asks teachers, many requests at once: answers in the order of the requests, from the cache where they are known."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from data_engine.teachers.cache import Cache
from data_engine.teachers.counts import Counts
from data_engine.teachers.engine import Engine
from data_engine.teachers.lanes import Job
from data_engine.teachers.pictures import Pictures
from data_engine.teachers.recipe import Budget, Pool
from data_engine.teachers.request import Answer, Failure, Request
from data_engine.teachers.spending import Spending


def ask(
    pool: Pool,
    requests: Iterable[Request],
    *,
    pictures: Pictures | None = None,
    cache: Cache | None = None,
    budget: Budget | None = None,
    parse: Callable[[str], Any] | None = None,
    workers: int = 1,
    counts: Counts | None = None,
) -> Iterator[Answer | Failure]:
    """One answer or failure per request, in their order; with `answers: all` one per teacher in the pool's order.

    `pictures` opens the requests' images when they are sent. `cache` gives what is known and keeps what is answered.
    `parse` makes `Answer.parsed` of a text; what it refuses (by raising) is asked again, and then a failure. `workers`
    is how many processes share the teachers' rate limits. `counts` is filled. Memory holds a fixed number of requests.

    Raises TeacherError (a wrong key or address, a server that is gone) and BudgetError, each one clear line; what was
    answered until then is in the cache. Raises RecipeError for a teacher that cannot be asked. No single request does.
    """
    pool.require()
    if budget is not None:
        budget.require(pool)
        if cache is None:
            raise ValueError("a budget is kept in the cache's folder: give `cache`")
    spending = Spending(cache.folder, budget) if cache and budget else None
    engine = Engine(pool, pictures, cache, spending, parse, workers, Counts() if counts is None else counts)
    answers = _answers(engine, requests)
    return _on_a_thread(answers) if _within_a_loop() else answers


def _answers(engine: Engine, requests: Iterable[Request]) -> Iterator[Answer | Failure]:
    with engine:
        window: deque[Job] = deque()
        for request in requests:
            window.extend(engine.put(request))
            while window and (len(window) >= engine.room or window[0].done):
                yield engine.outcome(window.popleft())
        while window:
            yield engine.outcome(window.popleft())


def _within_a_loop() -> bool:
    """Whether an event loop runs in this thread already, as in a notebook: another cannot."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _on_a_thread(answers: Iterator[Answer | Failure]) -> Iterator[Answer | Failure]:
    """The same, each made on a thread of their own."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        try:
            while (answer := thread.submit(next, answers, end).result()) is not end:
                yield answer  # type: ignore[misc]
        finally:
            thread.submit(answers.close).result()  # type: ignore[attr-defined]
