"""The answer level: an answer held against the truths of its question."""

from collections.abc import Mapping, Sequence
from typing import Any

from data_engine.verify.check import judge_answer
from data_engine.verify.judgement import Judgement
from data_engine.verify.truth import truth_from

SEPARATOR = ";"


def answer_judgement(truths: Sequence[Mapping[str, Any]], answer: str) -> Judgement:
    """Whether an answer that stands alone holds: a merged question has a truth for each part of its answer."""
    if not answer.strip():
        return Judgement(False, 0.0, "no answer")
    if len(truths) == 1:
        return judge_answer(truth_from(truths[0]), answer)
    parts = [part.strip() for part in answer.split(SEPARATOR)]
    if len(parts) != len(truths):
        return Judgement(False, 0.0, f"{len(parts)} answers to {len(truths)} questions")
    each = [judge_answer(truth_from(truth), part) for truth, part in zip(truths, parts, strict=True)]
    wrong = next((one for one in each if not one.right), None)
    return Judgement(wrong is None, sum(one.score for one in each) / len(each), wrong.why if wrong else each[0].why)
