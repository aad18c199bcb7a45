"""The answer level: an answer held against the truths of its question."""

from collections.abc import Mapping, Sequence
from typing import Any

from data_engine.verify.check import judge
from data_engine.verify.judgement import Judgement
from data_engine.verify.truth import Truth

SEPARATOR = ";"


def answer_judgement(truths: Sequence[Mapping[str, Any]], answer: str) -> Judgement:
    """Whether the answer holds against all truths: a merged question has one for each part of its answer."""
    if len(truths) == 1:
        return judge(Truth.model_validate(truths[0]), answer)
    parts = [part.strip() for part in answer.split(SEPARATOR)]
    if len(parts) != len(truths):
        return Judgement(False, 0.0, f"{len(parts)} answers to {len(truths)} questions")
    each = [judge(Truth.model_validate(truth), part) for truth, part in zip(truths, parts, strict=True)]
    wrong = next((one for one in each if not one.right), None)
    return Judgement(wrong is None, sum(one.score for one in each) / len(each), wrong.why if wrong else each[0].why)
