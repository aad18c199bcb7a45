"""Step 5, scoring: the report's scale of 1 to 5 (arXiv 2509.01563, 4.3.1), by rules and by a judge within them.

1 simple, ambiguous, or answerable without the picture · 2 obvious, or common sense · 3 basic understanding of the
picture, little reasoning · 4 needs reasoning · 5 strongly multimodal, advanced reasoning.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from cot_factory import costs
from cot_factory.asking import Desk
from cot_factory.generate import ask_of
from cot_factory.prompting import prompt
from cot_factory.question import Question, Row, chain_id, read_part, steps_of
from cot_factory.recipe import SCORES, Factory, Generate, Score
from cot_factory.verdict import answer_judgement
from data_engine.teachers.counts import Counts
from data_engine.teachers.request import Answer, Failure, Request
from data_engine.verify.extract import final_answer

EASY_PASS, HARD_PASS = 0.9, 0.5
MANY_STEPS = 4
SCORED = pa.schema(
    [("chain", pa.string()), ("question", pa.string()), ("by", pa.string()), ("why", pa.string())]
    + [(name, pa.int32()) for name in ("score", "low", "high")]
    + [("pass_rate", pa.float64()), ("blind_rate", pa.float64())]
)


@dataclass(frozen=True, slots=True)
class Scored:
    """`score` within `low` and `high`, what the rules leave open; `by`: the judge, or the rules alone; why."""

    score: int
    low: int
    high: int
    by: str
    why: str


def bounds(question: Question, steps: int, pass_rate: float, blind_rate: float | None) -> tuple[int, int, str]:
    """What the rules leave of the scale, and why.

    Solved without the picture: 1, or 2 if seldom. Nearly every path right and at most two steps: 2 to 3. Half of the
    paths wrong, or many steps: 3 to 5. Text alone is never strongly multimodal: 4 at most.
    """
    if blind_rate is not None and blind_rate >= HARD_PASS:
        return 1, 1, f"answered without the picture in {blind_rate:.0%} of the tries"
    top = 5 if question.shown else 4
    if pass_rate >= EASY_PASS and steps <= 2:
        return 2, 3, f"{pass_rate:.0%} of the paths right, in {steps} steps"
    if pass_rate < HARD_PASS or steps >= MANY_STEPS:
        return 3, top, f"{pass_rate:.0%} of the paths right, in {steps} steps"
    return 2, 4, f"{pass_rate:.0%} of the paths right, in {steps} steps"


def scores(
    rows: Sequence[tuple[Question, dict[str, Any]]],
    pass_rates: dict[str, float],
    blind_rates: dict[str, float],
    spec: Score,
    desk: Desk,
) -> Iterator[Scored]:
    """One for each chain that is kept: a judge's expected digit, held within the rules; without a judge the middle of
    what they leave.
    """
    asked = prompt("score")
    requests = [
        asked.request(
            {"question": one.text, "answer": row["answer"], "chain": row["text"]}, choices=tuple(map(str, SCORES))
        )
        for one, row in rows
    ]
    replies = desk.replies(spec.judges, requests) if spec.judges else iter([None] * len(rows))
    for (one, row), reply in zip(rows, replies, strict=True):
        steps, name = len(steps_of(row["steps"])), row["question"]
        low, high, why = bounds(one, steps, pass_rates[name], blind_rates.get(name))
        told = _digit(reply)
        score = math.ceil((low + high) / 2) if told is None else min(max(told, low), high)
        yield Scored(score, low, high, reply.teacher if isinstance(reply, Answer) else "rules", why)


def _digit(reply: Answer | Failure | None) -> int | None:
    """A folder's answer has the log-probability of every digit: the expected one; a server's has the digit it said."""
    if not isinstance(reply, Answer):
        return None
    if reply.scores is None:
        return int(reply.text)
    best = max(reply.scores)
    weights = [math.exp(one - best) for one in reply.scores]
    return round(sum(digit * weight for digit, weight in zip(SCORES, weights, strict=True)) / sum(weights))


def blind(questions: Sequence[Question], spec: Score, solving: Generate, desk: Desk) -> dict[str, float]:
    """How often each question about a picture was answered right by who was shown nothing of it."""
    shown = [one for one in questions if one.shown] if spec.blind_paths else []
    requests = (request for one in shown for request in _blindly(one, spec.blind_paths, solving))
    replies = desk.replies(solving.teachers, requests)
    rates: dict[str, float] = {}
    for one in shown:
        told = [next(replies) for _ in range(spec.blind_paths)]
        answers = [(final_answer(reply.text) or "") for reply in told if isinstance(reply, Answer)]
        right = sum(answer_judgement(one.truths, answer).right for answer in answers)
        rates[one.id] = right / len(answers) if answers else 0.0
    return rates


def _blindly(question: Question, number: int, solving: Generate) -> Iterator[Request]:
    first = int(question.id[8:16], 16) % (1 << 30)
    asked = ask_of(replace(question, facts=(), shown=()), solving)
    for k in range(number):
        yield replace(asked, seed=first + k, together=(first, number), logprobs=False)


def scored(
    units: pa.Table, *, recipe: Factory, desk: Desk, questions: Path, kept: Path, pass_rates: Mapping[str, float]
) -> dict[str, pa.Table]:
    desk = replace(desk, counts=Counts())
    known, rows = read_part(units, questions, kept)
    asked = list(dict.fromkeys(row["question"] for row in rows))
    blindly = blind([known[name] for name in asked], recipe.score, recipe.generate, desk)
    pairs = [(known[row["question"]], row) for row in rows]
    found = scores(pairs, dict(pass_rates), blindly, recipe.score, desk)
    about = [
        {
            **asdict(one), "chain": chain_id(row), "question": row["question"],
            "pass_rate": pass_rates[row["question"]], "blind_rate": blindly.get(row["question"]),
        }
        for row, one in zip(rows, found, strict=True)
    ]  # fmt: skip
    return {"scores": pa.Table.from_pylist(about, schema=SCORED), **costs.table(desk.counts)}


def pass_rates(rows: Sequence[Row]) -> dict[str, float]:
    """The share of each question's paths that are right."""
    right: dict[str, list[bool]] = {}
    for row in rows:
        right.setdefault(row["question"], []).append(row["right"])
    return {name: sum(told) / len(told) for name, told in right.items()}
