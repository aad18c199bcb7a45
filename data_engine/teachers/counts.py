"""What became of the requests, per teacher, as plain data that a step records and a report shows."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Tally:
    """One teacher's part. `requests` = `answered` + `cached` + all of `failed`. Tokens and cost are those newly spent,
    retried and refused replies included; `retried` and `failed` count by reason.
    """

    requests: int = 0
    answered: int = 0
    cached: int = 0
    retried: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


class Counts:
    """The tallies of a run, by teacher. Filled by `ask`."""

    def __init__(self) -> None:
        self.teachers: dict[str, Tally] = {}

    def of(self, teacher: str) -> Tally:
        return self.teachers.setdefault(teacher, Tally())

    def as_data(self) -> dict[str, dict[str, Any]]:
        """Plain data, for JSON."""
        return {name: asdict(tally) for name, tally in sorted(self.teachers.items())}


def summary(parts: Iterable[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The sum of many processes' counts (`Counts.as_data`)."""
    total = Counts()
    for part in parts:
        for name, found in part.items():
            tally = total.of(name)
            for key, value in found.items():
                old = getattr(tally, key)
                setattr(tally, key, _merged(old, value) if isinstance(value, dict) else old + value)
    return total.as_data()


def _merged(one: dict[str, int], two: dict[str, int]) -> dict[str, int]:
    return {reason: one.get(reason, 0) + two.get(reason, 0) for reason in sorted({*one, *two})}
