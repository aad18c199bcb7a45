"""Step 4, people: tasks out to the review queue, and their decisions back."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import xxhash

from cot_factory.question import Question, Row, chain_id, steps_of, steps_text
from cot_factory.record import Action, Decision, Step, Task, as_data, decision_from
from data_engine.media import write_atomic
from strict_yaml import RecipeError


def task_id(row: Row) -> str:
    """The chain and a hash of what people see of it: a decision holds for those words, and not for what the chain of
    the same place says after another prompt or another teacher.
    """
    shown = json.dumps([*(step.text for step in steps_of(row["steps"])), row["answer"]])
    return f"{chain_id(row)}-{xxhash.xxh3_64_hexdigest(shown.encode())[:8]}"


def task_of(question: Question, row: Row, reason: str, original: Sequence[str] = ()) -> Task:
    """A chain as people see it; the nearer its probability to one half, the earlier."""
    return Task(
        id=task_id(row), domain=question.domain, question=question.text, reference=question.reference,
        answer=row["answer"], steps=steps_of(row["steps"]), original=tuple(original), media=question.shown,
        tier=row["tier"], reason=reason, confidence=row["probability"],
        uncertainty=1 - 2 * abs(row["probability"] - 0.5),
    )  # fmt: skip


def gold(rows: Iterable[tuple[Question, Row]], share: float, tasks: int) -> list[Task]:
    """Tasks whose decision is known, as many as `share` of all: clean chains to accept, wrong ones to reject by turns;
    which ones follows from their ids. They look like the others, and are none of them: these need no one's decision.
    """
    known: dict[Literal["accept", "reject"], list[Task]] = {"accept": [], "reject": []}
    for question, row in rows:
        is_clean = row["tier"] == "A" and not any(step.flawed for step in steps_of(row["steps"]))
        if is_clean or not row["right"]:
            word: Literal["accept", "reject"] = "accept" if is_clean else "reject"
            known[word].append(replace(task_of(question, row, ""), gold=word, tier="B"))
    number = round(share * tasks / (1 - share)) if share < 1 else 0
    ranked = [sorted(found, key=lambda task: xxhash.xxh3_64_intdigest(task.id.encode())) for found in known.values()]
    mixed = [one for pair in zip(*ranked, strict=False) for one in pair]
    return mixed[:number]


def write_tasks(tasks: Iterable[Task], path: Path) -> None:
    lines = [json.dumps(as_data(task), ensure_ascii=False) for task in tasks]
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())


def read_decisions(path: Path) -> list[Decision]:
    """The decisions so far, none where there is no file. Raises RecipeError naming the line."""
    if not path.is_file() or not path.stat().st_size:
        return []
    found = []
    for number, line in enumerate(path.read_bytes().removesuffix(b"\n").split(b"\n"), start=1):
        try:  # no `splitlines`: a text may hold other ends of lines
            found.append(decision_from(json.loads(line)))
            if found[-1].action not in get_args(Action):
                raise ValueError(f"action is {found[-1].action!r}, not one of {', '.join(get_args(Action))}")
        except (ValueError, TypeError, KeyError) as error:
            raise RecipeError(f"{path}:{number}: not a decision: {error}; write it anew from the queue") from error
    return found


def settled(decisions: Iterable[Decision]) -> dict[str, Decision]:
    """The decision that holds for each task: an adjudicated one, else the one that most people came to; none of a task
    over which as many differ, or on which nobody has decided. Of equal decisions the first fix holds.
    """
    by_task: dict[str, list[Decision]] = defaultdict(list)
    for one in decisions:
        if one.action in {"accept", "fix", "reject"}:
            by_task[one.task].append(one)
    held = {task: _held(told) for task, told in by_task.items()}
    return {task: one for task, one in held.items() if one is not None}


def _held(told: Sequence[Decision]) -> Decision | None:
    if final := [one for one in told if one.adjudicated]:
        return final[-1]
    kept = [one for one in told if one.action != "reject"]
    refused = [one for one in told if one.action == "reject"]
    if len(kept) == len(refused):
        return None
    if len(refused) > len(kept):
        return refused[0]
    return next((one for one in kept if one.action == "fix"), kept[0])


def applied(row: Row, decision: Decision | None) -> tuple[Row, str]:
    """A chain as people left it, and what became of it: `accepted`, `fixed`, `rejected` or `waiting`."""
    if decision is None:
        return row, "waiting"
    if decision.action == "reject":
        return row, "rejected"
    if decision.action == "accept":
        return row, "accepted"
    return _edited(row, decision), "fixed"


def _edited(row: Row, decision: Decision) -> Row:
    before: Mapping[str, Step] = {step.text: step for step in steps_of(row["steps"])}
    steps = [before.get(text, Step(text)) for text in decision.steps] or list(before.values())
    answer = decision.answer or row["answer"]
    text = "\n".join([*(step.text for step in steps), f"Answer: {answer}"])
    return row | {"text": text, "steps": steps_text(steps), "answer": answer}
