"""The process level by rules: what can be said of each step without a model."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from cot_factory.assess import arithmetic, congruence, consistency
from cot_factory.assess import facts as facts_
from cot_factory.record import Finding, Step
from cot_factory.select import similarity, word_pairs

REPEATED = 0.8
"""Share of word pairs in common from which on a step repeats one before it."""
_CONTENT = re.compile(r"[^\W_]{3,}|\d+")
_VARIABLE = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?=[_^=<>≤≥+\-*/|(),])|(?<=[_^=<>≤≥+\-*/|(),])[A-Za-z](?![A-Za-z])")
_OPENS = re.compile(
    r"\W*(?:let|denote|define|suppose|assume|consider|without loss|thus,? we only|to (?:solve|find)|here)\b|.*:\W*\Z",
    re.IGNORECASE | re.DOTALL,
)
_MARKS = re.compile(r"\d+|[-+<>=≤≥−]")
_SPELT = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def assess_process(question: str, steps: Sequence[Step], answer: str, facts: Sequence[str] = ()) -> tuple[Step, ...]:
    """The steps with what the rules find: `arithmetic`, `congruence`, `consistency`, `facts`, `redundancy`,
    `relevance`, and of the last step `support`.

    A rule that has nothing to say of a step leaves no finding.
    """
    known = facts_.read(facts)
    out = []
    for place, step in enumerate(steps):
        before = [one.text for one in steps[:place]]
        found = [
            *arithmetic.findings(_bare(step.text)),
            *congruence.findings(_bare(step.text)),
            *consistency.findings(_bare(step.text), [_bare(text) for text in before]),
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
        # The same words of another sign or number are another case: "at x = -1", "at x = 1".
        if (
            _MARKS.findall(_bare(text)) == _MARKS.findall(_bare(other))
            and similarity(pairs, word_pairs(_bare(other))) >= REPEATED
        ):
            yield Finding("redundancy", False, f"says again what step {place} said")
            return


def _bare(text: str) -> str:
    """Without its number, which tells steps apart that are else the same."""
    return re.sub(r"^\W*(?:step\s*)?\d{1,3}\s*[.):]\s*", "", text, flags=re.IGNORECASE)


def _relevance(text: str, others: Sequence[str]) -> Iterator[Finding]:
    """A step that shares no word, number or variable with the question, the facts or the steps before is beside the
    point, unless it opens something new.
    """
    words, known = _content(_bare(text)), _content(" ".join(others))
    if words and not words & known and not _OPENS.match(_bare(text)):
        yield Finding("relevance", False, "shares nothing with the question or the steps before")


def _content(text: str) -> set[str]:
    return {*_CONTENT.findall(text.lower()), *_VARIABLE.findall(text)}


def _support(answer: str, said: Sequence[str]) -> Iterator[Finding]:
    """An answer that is a number must come up in the steps, the question or the facts; 0 may be told as "none"."""
    number = re.fullmatch(r"-?\d+(?:\.\d+)?", answer.strip())
    if not number or number[0] == "0":
        return
    text = re.sub(r"(?<=\d)(?:,|\{,\})(?=\d{3}\b)", "", " ".join(said).lower())
    spelt = number[0].isdigit() and int(number[0]) < len(_SPELT) and re.search(rf"\b{_SPELT[int(number[0])]}\b", text)
    if not spelt and float(number[0]) not in map(float, re.findall(r"-?\d+(?:\.\d+)?", text)):
        yield Finding("support", False, f"the answer {answer} comes out of no step")


def redundancy(steps: Sequence[Step]) -> float:
    """How much a chain repeats itself: the mean over its steps of the largest likeness (`similarity`) to one before."""
    pairs = [word_pairs(_bare(step.text)) for step in steps]
    most = [max((similarity(pairs[k], one) for one in pairs[:k]), default=0.0) for k in range(len(pairs))]
    return sum(most) / len(most) if most else 0.0


def first_flawed(steps: Sequence[Step]) -> int | None:
    """The place of the first flawed step, from 0."""
    return next((place for place, step in enumerate(steps) if step.flawed), None)
