"""Think, no_think and auto: how a user asks for a mode, and how a reply is read (Keye-VL-1.5, README and report).

A suffix on the last text of the last user turn asks for a mode; without one the model chooses for itself:

    think      <think> … </think> <answer> … </answer>
    no_think   the answer, plain
    auto       <analysis> … </analysis>, then one of the two
"""

import re
from dataclasses import dataclass
from typing import Literal

Mode = Literal["auto", "think", "no_think"]
SUFFIXES: dict[Mode, str] = {"auto": "", "think": "/think", "no_think": "/no_think"}

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_BOXED = "\\boxed{"
_BRACES = re.compile(r"\\boxed\{|[{}]")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply in its parts; `analysis` and `thoughts` are None where it has none."""

    analysis: str | None
    thoughts: str | None
    answer: str


def parse_reply(text: str) -> Reply:
    """Reads a reply by the report's rule, the one its official evaluation uses.

    What follows the last `</analysis>`, then the last `</think>`. There the last `<answer>` holds the answer, and
    in it the last `\\boxed{}` with balanced braces; without `<answer>` that box, or all that is left.
    """
    analysis, rest = _before(text, "analysis")
    thoughts, rest = _before(rest, "think")
    found = _ANSWER.findall(rest)
    answer = found[-1] if found else rest
    boxed = last_boxed(answer)
    return Reply(analysis, thoughts, (answer if boxed is None else boxed).strip())


def _before(text: str, tag: str) -> tuple[str | None, str]:
    """What stands within the tag that closes last, and what follows it."""
    within, closed, rest = text.rpartition(f"</{tag}>")
    if not closed:
        return None, text
    return within.rpartition(f"<{tag}>")[2].strip(), rest


def last_boxed(text: str) -> str | None:
    """The content of the last `\\boxed{...}` whose braces balance; None where there is none. One pass, any text."""
    found: tuple[int, int] | None = None
    opened: list[int] = []
    for brace in _BRACES.finditer(text):
        if brace[0] != "}":
            opened.append(brace.end() if brace[0] == _BOXED else -1)
        elif opened and (start := opened.pop()) > (found or (0, 0))[0]:
            found = (start, brace.start())
    return None if found is None else text[slice(*found)]
