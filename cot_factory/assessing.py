"""Step 3, assessing: every chain on two levels, the answer and the process, and the tier that follows."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from cot_factory import costs
from cot_factory.asking import Desk
from cot_factory.assess.judge import judged
from cot_factory.assess.process import assess_process, redundancy
from cot_factory.assess.tier import tier
from cot_factory.question import ASSESSED, Question, Row, read_part, steps_of, steps_text
from cot_factory.recipe import Assess, Factory
from cot_factory.verdict import answer_judgement
from data_engine.teachers.counts import Counts


def assessed(rows: Iterable[tuple[Question, Row]], spec: Assess, desk: Desk) -> Iterator[Row]:
    """The chains (`question.CHAINS`) with what was found: `right`, `why`, `steps` with their findings, `redundancy`,
    `tier` and its `reason`.
    """
    pairs = list(rows)
    ruled = [assess_process(one.text, steps_of(row["steps"]), row["answer"], facts=one.facts) for one, row in pairs]
    if spec.judges:
        ruled = judged([one.text for one, _ in pairs], ruled, lambda requests: desk.replies(spec.judges, requests))
    for (one, row), steps in zip(pairs, ruled, strict=True):
        told = answer_judgement(one.truths, row["answer"])
        found, reason = tier(told, steps, redundancy(steps), spec, finished=row["finish"] != "length")
        yield row | {
            "right": told.right,
            "why": told.why,
            "steps": steps_text(steps),
            "redundancy": redundancy(steps),
            "tier": found,
            "reason": reason,
        }


def middling(row: Row, spec: Assess) -> bool:
    """Whether people look at a chain though it is right: it repeats itself, and not so much that it is dropped."""
    return bool(row["tier"] == "A" and spec.middling <= row["redundancy"] < spec.redundant)


def needs_people(row: Row, spec: Assess) -> bool:
    return row["tier"] == "B" or middling(row, spec)


def assessed_part(
    units: pa.Table, *, recipe: Factory, desk: Desk, questions: Path, chains: Path
) -> dict[str, pa.Table]:
    desk = replace(desk, counts=Counts())
    known, rows = read_part(units, questions, chains)
    found = list(assessed([(known[row["question"]], row) for row in rows], recipe.assess, desk))
    return {"assessed": pa.Table.from_pylist(found, schema=ASSESSED), **costs.table(desk.counts)}
