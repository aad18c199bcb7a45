"""A chain's text as steps: numbered lines where there are some, else paragraphs, else sentences."""

import itertools
import re

Span = tuple[int, int]

_THOUGHTS = re.compile(r"(?:<think>|\A(?!.*<think>)(?=.*</think>))(.*?)(?:</think>|\Z)", re.DOTALL)
_ANSWER = re.compile(
    r"^[ \t>*#]*(?:final\s+)?answer\b[ \t]*(?:is\b)?[ \t]*[:=：].*", re.IGNORECASE | re.MULTILINE | re.DOTALL
)
_NUMBERED = re.compile(r"^[ \t*#>]*(?:\(?\d{1,3}[.):]|step\s+\d{1,3}\b)", re.IGNORECASE | re.MULTILINE)
_PARAGRAPH = re.compile(r"\n[ \t]*\n")
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+(?=[^\s\d])")


def split(text: str) -> list[Span]:
    """(start, end) of each step, in order and without its outer blanks: the thoughts without the line of the answer.

    A text before the first number is a step of its own. No step is empty; a text without any has none.
    """
    start, end = _thoughts(text)
    cuts = [found.start() for found in _NUMBERED.finditer(text, start, end)]
    if len(cuts) < 2 and not (cuts and cuts[0] == start):
        cuts += [found.end() for found in _PARAGRAPH.finditer(text, start, end)]
    if not cuts:
        cuts = [found.end() for found in _SENTENCE.finditer(text, start, end)]
    borders = sorted({start, *cuts, end})
    return [span for pair in itertools.pairwise(borders) if (span := _trimmed(text, *pair))]


def _thoughts(text: str) -> Span:
    """What is thought: within `<think>` (a chat template may have opened it), or all before the line of the answer."""
    if found := _THOUGHTS.search(text):
        return found.span(1)
    answer = _ANSWER.search(text)
    return 0, answer.start() if answer else len(text)


def _trimmed(text: str, start: int, end: int) -> Span | None:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    return (start + left, start + len(piece.rstrip())) if piece.strip() else None
