"""Step 4, repairing: a flawed chain goes on anew from its last right step, by a teacher, before people see it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from cot_factory import costs
from cot_factory.asking import Desk, pictures_of
from cot_factory.assess.steps import split
from cot_factory.assessing import assessed
from cot_factory.prompting import prompt
from cot_factory.question import MENDED, Question, Row, chain_id, read_part, steps_of, steps_text
from cot_factory.recipe import Factory, Generate
from cot_factory.record import Step
from data_engine.teachers.counts import Counts
from data_engine.teachers.request import Answer, Request
from data_engine.verify.extract import final_answer


def repaired(
    rows: Sequence[tuple[Question, dict[str, Any]]], names: Sequence[str], solving: Generate, desk: Desk
) -> Iterator[Answer | None]:
    """For each assessed chain the new end that a teacher gives its right steps; None where nobody mended it."""
    requests = [_request(question, steps_of(row["steps"]), solving) for question, row in rows]
    for reply in desk.replies(names, requests):
        yield reply if isinstance(reply, Answer) else None


def right_prefix(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps before the first flawed one."""
    first = next((place for place, step in enumerate(steps) if step.flawed), len(steps))
    return tuple(steps[:first])


def _request(question: Question, steps: Sequence[Step], solving: Generate) -> Request:
    kept = right_prefix(steps)
    flaw = "; ".join(found.why for found in steps[len(kept)].findings if found.ok is False)
    facts = "" if solving.show == "pictures" else "\n".join(question.facts)
    values = {"question": question.text, "facts": facts, "flaw": flaw}
    values["kept"] = "\n".join(step.text for step in kept) or "(none)"
    return prompt("repair").request(values, () if solving.show == "facts" else pictures_of(question))


def mended(units: pa.Table, *, recipe: Factory, desk: Desk, questions: Path, selected: Path) -> dict[str, pa.Table]:
    """The selected chains; those with a flawed step as a teacher mended them, where the recipe says so. A chain that
    only repeats itself has no right prefix to go on from: people see it as it is.
    """
    desk = replace(desk, counts=Counts())
    known, rows = read_part(units, questions, selected)
    flawed = [row for row in rows if row["tier"] == "B"] if recipe.review.repair else []
    pairs = [(known[row["question"]], row) for row in flawed]
    told = repaired(pairs, recipe.review.repair, recipe.generate, desk)
    new = [(one, _rewritten(row, end)) for (one, row), end in zip(pairs, told, strict=True) if end]
    judged = assessed(new, recipe.assess, desk)
    better = {chain_id(row): row for row in judged if row["tier"] != "C"}
    done = [_mended(row, better.get(chain_id(row))) for row in rows]
    return {"selected": pa.Table.from_pylist(done, schema=MENDED), **costs.table(desk.counts)}


def _rewritten(row: Row, end: Answer) -> Row:
    """The right steps and the new end, to be assessed like any other chain: a repair is a proposal."""
    kept = [step.text for step in right_prefix(steps_of(row["steps"]))]
    steps = [Step(text) for text in (*kept, *(end.text[a:b].strip() for a, b in split(end.text)))]
    text, answer = "\n".join([*kept, end.text.strip()]), final_answer(end.text) or ""
    return row | {"text": text, "steps": steps_text(steps), "answer": answer, "finish": end.finish}


def _mended(row: Row, new: Row | None) -> Row:
    """A repair that loses the right answer, or is worse than what it mends (tier C), is none."""
    before = [step.text for step in steps_of(row["steps"])]
    if new is None:
        return row | {"original": before, "mended": False}
    return new | {"tier": row["tier"], "original": before, "mended": True}
