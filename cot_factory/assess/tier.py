"""The tier of a chain: A right in both, B right with a flawed process, C wrong or badly flawed (arXiv 2509.01563)."""

from collections.abc import Sequence

from cot_factory.recipe import Assess
from cot_factory.record import Step, Tier
from data_engine.verify.judgement import Judgement


def tier(
    answer: Judgement, steps: Sequence[Step], redundancy: float, spec: Assess, *, finished: bool = True
) -> tuple[Tier, str]:
    """The tier, and why it is no A (empty for an A)."""
    flaws = [found.why for step in steps for found in step.findings if found.ok is False]
    share = sum(step.flawed for step in steps) / len(steps) if steps else 0.0
    if not answer.right:
        return "C", f"answer wrong: {answer.why}"
    if not finished:
        return "C", "cut off before its end"
    if not steps:
        return "C", "no steps"
    if redundancy >= spec.redundant:
        return "C", f"redundant: {redundancy:.2f}"
    if flaws and share >= spec.severe_steps:
        return "C", f"badly flawed: {flaws[0]}"
    return ("B", f"flawed: {flaws[0]}") if flaws else ("A", "")
