"""The process level by a model, where rules cannot tell: one question a step, answered yes or no."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from cot_factory.prompting import prompt
from cot_factory.record import Finding, Step
from data_engine.teachers.request import Answer, Failure, Request

CHOICES = ("yes", "no")
Replies = Callable[[Iterable[Request]], Iterator[Answer | Failure]]


def judged(questions: Sequence[str], chains: Sequence[Sequence[Step]], replies: Replies) -> list[tuple[Step, ...]]:
    """The chains with a finding `judge` of each step that no rule has an opinion on. A failure leaves none."""
    open_ = [(c, s) for c, steps in enumerate(chains) for s, step in enumerate(steps) if not _ruled(step)]
    asked = prompt("judge_step")
    requests = (
        asked.request(
            {
                "question": questions[c],
                "before": "\n".join(step.text for step in chains[c][:s]) or "(none)",
                "step": chains[c][s].text,
            },
            choices=CHOICES,
        )
        for c, s in open_
    )
    out = [list(steps) for steps in chains]
    for (c, s), reply in zip(open_, replies(requests), strict=True):
        if isinstance(reply, Answer):
            out[c][s] = replace(out[c][s], findings=(*out[c][s].findings, _finding(reply)))
    return [tuple(steps) for steps in out]


def _ruled(step: Step) -> bool:
    return any(found.ok is not None for found in step.findings)


def _finding(reply: Answer) -> Finding:
    sure = ""
    if reply.scores is not None:
        yes, no = reply.scores
        sure = f", {1 / (1 + math.exp(min(50.0, no - yes))):.0%} for yes"
    return Finding("judge", reply.text == "yes", f"{reply.teacher} says {reply.text}{sure}")
