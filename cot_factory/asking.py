"""How the factory's steps ask teachers: with the run's cache, budget and pictures."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cot_factory.question import Question
from data_engine.media import MediaStore
from data_engine.teachers.ask import ask
from data_engine.teachers.cache import Cache
from data_engine.teachers.counts import Counts
from data_engine.teachers.pictures import Pictures
from data_engine.teachers.recipe import Budget, Pool, Teacher
from data_engine.teachers.request import Answer, Failure, Image, Request

MAX_SIDE = 1024


@dataclass(frozen=True, slots=True)
class Desk:
    """What a partition needs to ask: plain data that travels to workers. `counts` is filled there."""

    teachers: tuple[Teacher, ...]
    cache: Path
    store: Path
    budget: Budget | None = None
    processes: int = 1
    counts: Counts = field(default_factory=Counts)

    def named(self, names: Sequence[str]) -> tuple[Teacher, ...]:
        """Those of the recipe's teachers, or all."""
        return tuple(one for one in self.teachers if not names or one.name in names)

    def replies(
        self,
        names: Sequence[str],
        requests: Iterable[Request],
        answers: Literal["one", "all"] = "one",
        parse: Callable[[str], Any] | None = None,
    ) -> Iterator[Answer | Failure]:
        """`teachers.ask` of those named."""
        return ask(
            Pool(teachers=self.named(names), answers=answers),
            requests,
            pictures=Pictures(MediaStore(self.store)),
            cache=Cache.at(self.cache),
            budget=self.budget,
            parse=parse,
            workers=self.processes,
            counts=self.counts,
        )


def pictures_of(question: Question) -> tuple[Image, ...]:
    """The pictures of a question as a teacher is shown them."""
    return tuple(Image(item, MAX_SIDE) for item in question.media if item.kind == "image")


def settings_of(teachers: Iterable[Teacher]) -> list[Any]:
    """What their answers depend on: what a step's identity knows of them."""
    return [[one.name, one.identity, one.max_tokens, one.temperature, one.seed] for one in teachers]
