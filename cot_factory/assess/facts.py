"""Claims about a picture held against what is known of it.

A fact is a question and its answer (`is there a circle? no`), or an object as JSON (`{"shape": "circle", "color":
"red"}`). A claim is checked only if it is plain: "there is no circle", "the shape is a circle", "the color is red".
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cot_factory.record import Finding

_IS_THERE = re.compile(
    r"^(?:is|are|does|do)\s+(?P<no>no\s+)?(?:there\s+)?(?:the\s+image\s+)?(?P<not>not\s+)?(?:contain\s+)?"
    r"(?:an?\s+)?(?P<what>[a-z]+(?:\s[a-z]+)?)(?:\s+(?:in the image|present|shape))?(?P<shape>\s+present)?\s*$"
)
_WHICH = re.compile(r"^what\s+(?:is\s+the\s+)?(?P<kind>colou?r|shape)\b(?!\s+shape)")
_NONE = re.compile(r"\b(?:no|not\s+an?|isn't\s+an?|is\s+not|are\s+no)\s+(?P<what>[a-z]+)\b")
_IS = re.compile(
    r"\bthe\s+(?P<kind>colou?r|shape)(?:\s+of\s+the\s+shape|\s+in\s+the\s+image|\s+of\s+the\s+image)?\s+is\s+"
    r"(?P<not>not\s+)?(?:an?\s+|the\s+)?(?P<what>[a-z]+)\b"
)
_ALIKE = {"colour": "color"}


@dataclass(slots=True)
class Known:
    """`values`: of each kind those that hold. `present`: what is there; `absent`: what is not."""

    values: dict[str, set[str]] = field(default_factory=dict)
    present: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)


def read(facts: Sequence[str]) -> Known:
    """What facts say, as far as they are of a form that is understood."""
    known = Known()
    for fact in facts:
        if fact.startswith("{"):
            _read_object(fact, known)
        else:
            asked, _, told = fact.strip().lower().rpartition("? ")
            _read_pair(asked.strip(), told.strip(" ."), known)
    return known


def _read_object(fact: str, known: Known) -> None:
    try:
        data = json.loads(fact)
    except ValueError:
        return
    for kind, value in data.items() if isinstance(data, dict) else ():
        if isinstance(value, str):
            known.values.setdefault(_ALIKE.get(str(kind), str(kind)), set()).add(value.lower())
            known.present.add(value.lower())


def _read_pair(asked: str, told: str, known: Known) -> None:
    which = _WHICH.match(asked)
    if which and told not in {"yes", "no"}:
        known.values.setdefault(_ALIKE.get(which["kind"], which["kind"]), set()).add(told)
        known.present.add(told)
        return
    found = _IS_THERE.match(re.sub(r"\s+", " ", asked))
    if found and told in {"yes", "no"}:
        words = [word for word in found["what"].split() if word not in {"shape", "present", "image", "in", "the", "a"}]
        negated = bool(found["no"] or found["not"])
        for word in words:
            (known.present if (told == "yes") != negated else known.absent).add(word)


def findings(step: str, known: Known) -> Iterator[Finding]:
    """A finding for each plain claim that the facts confirm or contradict."""
    text = re.sub(r"\s+", " ", step.lower())
    for found in _IS.finditer(text):
        kind, what = _ALIKE.get(found["kind"], found["kind"]), found["what"]
        truth = known.values.get(kind, set()) | (known.present if kind not in known.values else set())
        if what in truth or what in known.absent:
            holds = (what in truth) != bool(found["not"])
            yield Finding("facts", holds, _told(holds, found[0]), severe=not holds)
        elif kind in known.values and not found["not"] and what in VALUES:
            yield Finding("facts", False, _told(False, found[0]), severe=True)
    for found in _NONE.finditer(text):
        if found["what"] in known.present:
            yield Finding("facts", False, _told(False, found[0]), severe=True)
        elif found["what"] in known.absent:
            yield Finding("facts", True, _told(True, found[0]))


_COLOURS = "red green blue black gray grey teal brown yellow white orange purple pink"
_SHAPES = "circle rectangle triangle square ellipse star"
VALUES = frozenset(f"{_COLOURS} {_SHAPES}".split())
"""Words that are a value, and not the beginning of something else ("the shape is in the middle")."""


def _told(holds: bool, claim: str) -> str:
    return f"{claim!r} {'agrees with' if holds else 'contradicts'} what is known"
