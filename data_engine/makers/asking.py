"""How makers ask the recipe's teachers."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from data_engine.making import Maker, Tools, faulty, teachers_of
from data_engine.sample import Sample
from data_engine.sources.common import Quarantined
from data_engine.teachers.ask import ask
from data_engine.teachers.cache import Cache
from data_engine.teachers.recipe import Pool
from data_engine.teachers.request import Answer, Failure, Request


def replies(
    rule: Maker,
    tools: Tools,
    requests: Iterable[Request],
    parse: Callable[[str], Any] | None = None,
    answers: Literal["one", "all"] = "one",
) -> Iterator[Answer | Failure]:
    """`teachers.ask` of the teachers that a maker names, with the run's cache, budget and pictures."""
    pool = Pool(teachers=teachers_of(rule, tools.teachers), answers=answers)
    return ask(
        pool,
        requests,
        pictures=tools.pictures(),
        cache=Cache.at(tools.cache / "answers"),
        budget=tools.budget,
        parse=parse,
        workers=tools.processes,
        counts=tools.counts,
    )


def refused(sample: Sample, field: str, reply: Failure) -> Quarantined:
    """A sample for which a teacher gave nothing of use."""
    return faulty(sample, field, f"{reply.teacher}: {reply.reason}: {reply.detail}")
