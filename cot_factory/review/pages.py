"""What the pages show, made of plain records: differences, boxes over a picture, statistics."""

import difflib
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from cot_factory.record import Task
from cot_factory.review.formulas import drawn

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
TEMPLATES.filters["drawn"] = drawn
TEMPLATES.filters["percent"] = lambda share: "–" if share is None else f"{share:.0%}"
_WORDS = re.compile(r"\s+|[^\s]+")


@lru_cache(maxsize=1024)
def difference(old: str, new: str) -> Markup:
    """Word by word: what is gone in `<del>`, what is new in `<ins>`."""
    before, after = _WORDS.findall(old), _WORDS.findall(new)
    pieces: list[Markup] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(escape("".join(before[a:b])))
            continue
        if b > a:
            pieces.append(Markup("<del>{}</del>").format("".join(before[a:b])))
        if d > c:
            pieces.append(Markup("<ins>{}</ins>").format("".join(after[c:d])))
    return Markup("").join(pieces)


def changes(task: Task) -> Markup | None:
    """How the steps differ from what the teacher first wrote; None where they do not."""
    old, new = "\n".join(task.original), "\n".join(step.text for step in task.steps)
    return difference(old, new) if task.original and old != new else None


def confidence_level(confidence: float | None) -> str:
    """A word for a number, so that nothing is said by colour alone."""
    if confidence is None:
        return "unknown"
    return "high" if confidence >= 0.8 else "middling" if confidence >= 0.5 else "low"


TEMPLATES.filters["level"] = confidence_level


def render(name: str, **values: Any) -> str:
    return TEMPLATES.get_template(f"{name}.html.jinja").render(values)
