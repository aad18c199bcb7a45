"""Answers that are a span of time."""

import re

from data_engine import grounding
from data_engine.verify.judgement import Judgement
from data_engine.verify.times import TIME, seconds
from data_engine.verify.truth import Span

_JOIN = r"\s*(?:-+>?|–|—|−|~|～|→|,|to|until|till|and|through|至|到)\s*"
_ENDS = re.compile(rf"(?<![\d:.])({TIME}){_JOIN}(?:at\s+|about\s+)?({TIME})(?![\d:])", re.IGNORECASE)
_NAMED = re.compile(
    rf"\b(?:start|begin)[a-z]*(?:_time| time)?\W{{1,5}}(?:(?:at|is|from)\s+)?({TIME})[^\d]{{1,40}}?"
    rf"\b(?:end|stop|finish)[a-z]*(?:_time| time)?\W{{1,5}}(?:(?:at|is)\s+)?({TIME})",
    re.IGNORECASE,
)
_ANY = re.compile(rf"(?<![\w:.])({TIME})(?![\w:])", re.IGNORECASE)


def span(truth: Span, answer: str) -> Judgement:
    """One span; the score is the overlap (intersection over union of time)."""
    found = read_spans(answer)
    if len(found) != 1:
        return Judgement(False, 0.0, f"{len(found)} spans where one was asked for" if found else "no span of time")
    start, end = found[0]
    if not start <= end:
        return Judgement(False, 0.0, f"a span that ends ({end:g} s) before it starts ({start:g} s)")
    score = overlap((truth.start, truth.end), (start, end))
    return Judgement(score >= truth.min_iou, score, f"overlap {score:.3f}, {truth.min_iou:g} asked for")


def read_spans(answer: str) -> list[tuple[float, float]]:
    """The distinct spans that an answer names, in seconds: Keyeforge's marks, else two times that are joined, else the
    only two times in it."""
    clips = [shape for shape in grounding.parse(answer)[0] if isinstance(shape, grounding.Clip)]
    if clips:
        return list(dict.fromkeys((clip.start, clip.end) for clip in clips))
    for form in (_NAMED, _ENDS):
        if found := [both for start, end in form.findall(answer) if (both := _read(start, end))]:
            return list(dict.fromkeys(found))
    times = _ANY.findall(answer)
    both = _read(*times) if len(times) == 2 else None
    return [both] if both else []


def _read(start: str, end: str) -> tuple[float, float] | None:
    try:
        return _with_shared_unit(start, end)
    except ValueError:
        return None


def _with_shared_unit(start: str, end: str) -> tuple[float, float]:
    """`2 - 3 min` is in minutes twice."""
    unit = re.search(r"[^\d\s.:]+\.?$", end)
    bare = unit is not None and re.fullmatch(r"[\d.]+", start.strip()) is not None
    only = unit is not None and re.fullmatch(r"[\d.]+", end[: unit.start()].strip()) is not None
    return seconds(start + unit[0] if bare and only and unit else start), seconds(end)


def overlap(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Intersection over union of two spans of time, 0 to 1."""
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return max(0.0, shared) / (max(one[1], other[1]) - min(one[0], other[0])) if shared > 0 else 0.0
