"""The process level by rules: what can be said of each step without a model."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from cot_factory.assess import arithmetic
from cot_factory.assess import facts as facts_
from cot_factory.record import Finding, Step
from cot_factory.select import similarity, word_pairs

REPEATED = 0.8
"""Share of word pairs in common from which on a step repeats one before it."""
_CONTENT = re.compile(r"[^\W_]{3,}|\d+")


def assess_process(question: str, steps: Sequence[Step], answer: str, facts: Sequence[str] = ()) -> tuple[Step, ...]:
    """The steps with what the rules find: `arithmetic`, `facts`, `redundancy`, `relevance`, and of the last `support`.

    A rule that has nothing to say of a step leaves no finding.
    """
    known = facts_.read(facts)
    out = []
    for place, step in enumerate(steps):
        before = [one.text for one in steps[:place]]
        found = [
            *arithmetic.findings(_bare(step.text)),
            *facts_.findings(step.text, known),
            *_redundancy(step.text, before),
        ]
        found += _relevance(step.text, [question, answer, *facts, *before])
        if place == len(steps) - 1 and answer:
            found += _support(answer, [question, *facts, *before, step.text])
        out.append(replace(step, findings=(*step.findings, *found)))
    return tuple(out)


def _redundancy(text: str, before: Sequence[str]) -> Iterator[Finding]:
    pairs = word_pairs(_bare(text))
    for place, other in enumerate(before, start=1):
        if similarity(pairs, word_pairs(_bare(other))) >= REPEATED:
            yield Finding("redundancy", False, f"says again what step {place} said")
            return


def _bare(text: str) -> str:
    """Without its number, which tells steps apart that are else the same."""
    return re.sub(r"^\W*(?:step\s*)?\d{1,3}\s*[.):]\s*", "", text, flags=re.IGNORECASE)


def _relevance(text: str, others: Sequence[str]) -> Iterator[Finding]:
    """A step that shares no word and no number with the question, the facts or the steps before is beside the point."""
    words = set(_CONTENT.findall(_bare(text).lower()))
    if words and not words & set(_CONTENT.findall(" ".join(others).lower())):
        yield Finding("relevance", False, "shares nothing with the question or the steps before")


def _support(answer: str, said: Sequence[str]) -> Iterator[Finding]:
    """An answer that is a number must come up in the steps, the question or the facts."""
    number = re.fullmatch(r"-?\d+(?:\.\d+)?", answer.strip())
    if number and number[0] not in re.findall(r"-?\d+(?:\.\d+)?", " ".join(said)):
        yield Finding("support", False, f"the answer {answer} comes out of no step")


def redundancy(steps: Sequence[Step]) -> float:
    """How much a chain repeats itself: the mean over its steps of the largest likeness (`similarity`) to one before."""
    pairs = [word_pairs(_bare(step.text)) for step in steps]
    most = [max((similarity(pairs[k], one) for one in pairs[:k]), default=0.0) for k in range(len(pairs))]
    return sum(most) / len(most) if most else 0.0


def first_flawed(steps: Sequence[Step]) -> int | None:
    """The place of the first flawed step, from 0."""
    return next((place for place, step in enumerate(steps) if step.flawed), None)
