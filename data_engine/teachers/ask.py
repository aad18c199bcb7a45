"""Asks teachers, many requests at once: answers in the order of the requests, from the cache where they are known."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from data_engine.sample import Media
from data_engine.teachers.cache import Cache
from data_engine.teachers.counts import Counts
from data_engine.teachers.recipe import Budget, Pool
from data_engine.teachers.request import Answer, Failure, Request


def ask(
    pool: Pool,
    requests: Iterable[Request],
    *,
    read: Callable[[Media], bytes] | None = None,
    cache: Cache | None = None,
    budget: Budget | None = None,
    parse: Callable[[str], Any] | None = None,
    workers: int = 1,
    counts: Counts | None = None,
) -> Iterator[Answer | Failure]:
    """One answer or failure per request, in the order of the requests; with `answers: all` one per teacher, in turn."""
    raise NotImplementedError
