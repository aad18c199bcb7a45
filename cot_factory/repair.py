"""Step 4, repairing: a flawed chain goes on anew from its last right step, by a teacher, before people see it."""

from collections.abc import Iterator, Sequence
from typing import Any

from cot_factory.asking import Desk, pictures_of
from cot_factory.prompting import prompt
from cot_factory.question import Question, steps_of
from cot_factory.recipe import Generate
from cot_factory.record import Step
from data_engine.teachers.request import Answer, Request


def repaired(
    rows: Sequence[tuple[Question, dict[str, Any]]], names: Sequence[str], solving: Generate, desk: Desk
) -> Iterator[str | None]:
    """For each assessed chain its right steps and a teacher's new end; None where nobody mended it.

    What comes back is to be assessed like any other chain: a repair is a proposal.
    """
    requests = [_request(question, steps_of(row["steps"]), solving) for question, row in rows]
    for (_, row), reply in zip(rows, desk.replies(names, requests), strict=True):
        kept = right_prefix(steps_of(row["steps"]))
        yield "\n".join([*(step.text for step in kept), reply.text.strip()]) if isinstance(reply, Answer) else None


def right_prefix(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps before the first flawed one."""
    first = next((place for place, step in enumerate(steps) if step.flawed), len(steps))
    return tuple(steps[:first])


def _request(question: Question, steps: Sequence[Step], solving: Generate) -> Request:
    kept = right_prefix(steps)
    flawed = steps[len(kept)] if len(kept) < len(steps) else None
    flaw = "; ".join(found.why for found in flawed.findings if found.ok is False) if flawed else "it repeats itself"
    facts = "" if solving.show == "pictures" else "\n".join(question.facts)
    values = {"question": question.text, "facts": facts, "flaw": flaw}
    values["kept"] = "\n".join(step.text for step in kept) or "(none)"
    return prompt("repair").request(values, () if solving.show == "facts" else pictures_of(question))
