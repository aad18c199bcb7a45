"""Answers that are a number: with unit and tolerance, how many, what a chart says."""

import re
from fractions import Fraction

from data_engine import grounding
from data_engine.operators.grounding import stated_number
from data_engine.verify import numbers
from data_engine.verify.extract import conclusions, last_line
from data_engine.verify.judgement import Judgement
from data_engine.verify.numbers import Quantity
from data_engine.verify.truth import Chart, Count, Number
from data_engine.verify.words import plain

_MARKED = re.compile(r"<\|(\w+)_start\|>.*?<\|\1_end\|>", re.DOTALL)
_DOTS = re.compile(r"(?:\.(?=\s|$)|[!?。；;\n]|,(?=\s)|，|：|:(?=\s))")
_DIGITS = re.compile(r"\d")
_PIECE = re.compile(
    r"(?<![A-Za-z0-9_.,/^])[-−–]?[$€£¥₹]?\d[\d,.]*(?:\s?[/×x^]\s?\d[\d^]*)*(?:\s?%|\s?°[CF]?|(?:\s?[a-zA-Z\u4e00-\u9fff]+(?:/[a-z]+)?(?:\^?[23]|[²³])?))?"
)


def _unmarked(text: str) -> str:
    return _MARKED.sub(" ", text) if "_end|>" in text else text


_NONE = re.compile(r"^\W*(?:none|no\s+\w+|(?:there\s+)?(?:are|is)\s+(?:none|no)\b|没有)", re.IGNORECASE)


def stated(answer: str) -> Quantity | None:
    """The one number an answer states: all of it, its last line, what follows the last `=` or `is` of that, what there
    are (`there are 7 of length 6`), or the only number in it. None where it states none, or several.
    """
    line = last_line(answer)
    for said in dict.fromkeys((answer, line)):
        if (found := numbers.parse(said)) is not None:
            return found
    if len(answer) > numbers.LONGEST * 50:
        return None
    concluded = [found for said in _tails(line) if (found := numbers.parse(said)) is not None]
    return _counted(line) or (concluded[0] if concluded else _only(answer))


_SIGNS = re.compile(r"=|≈|\\approx(?![a-zA-Z])")
_SEVERAL = re.compile(r"\b(?:or|and)\b|[,;或、]")


def _tails(line: str) -> list[str]:
    """What follows the last `=` of a chain (70 + 99 + 70 = 239; not `x = 1 or x = 2`), and each `is`."""
    found = []
    for said in (*conclusions(line), line):
        rest = _SIGNS.split(said)[1:]
        if rest and not any(_SEVERAL.search(part) for part in rest):
            found.append(rest[-1].strip(" $\\()[].*"))
        elif not rest:
            found.append(said)
    return found


_THERE = re.compile(r"\b[Tt]here (?:are|is|were)(?: (?:exactly|only|a total of|in total|about|at most))?\s+(.{1,60})")
_ANOTHER = re.compile(r"\band\s+(?:\d+|[a-z]+teen|one|two|three|four|five|six|seven|eight|nine|ten)\s+[a-z]")


def _counted(line: str) -> Quantity | None:
    """What there are: `There are 239 strings of length 6`; `7 cars and 3 people` are no one number."""
    found = _THERE.search(line[:200])
    piece = re.match(r"\$?(?:\\boxed\{)?(\d[\d,.]*\d|\d|[a-z-]+)", found[1]) if found else None
    if found is None or piece is None or _ANOTHER.search(line.lower()):
        return None
    return numbers.parse(piece[1])


_NOT = re.compile(
    r"\b(?:not|never|neither|cannot|without|(?:more|less|fewer|greater) than|at least|at most|up to|over|under)\b"
    r"|n't\b|不|没|\d(?:st|nd|rd|th)\b",
    re.IGNORECASE,
)


def _only(answer: str) -> Quantity | None:
    """The number of a sentence that has one: `There are 7 red cars.` States that agree are one."""
    text = _unmarked(answer)
    if _NOT.search(text) or any(sign in _PIECE.sub("", text) for sign in "^\\√"):
        return None
    digits = [found for piece in _PIECE.findall(text) if (found := _longest(piece)) is not None]
    if _DIGITS.search(text):
        whole = len(re.findall(r"\d+(?:[.,]\d+)*", text))
        return digits[0] if len({found.base for found in digits}) == 1 and len(digits) == whole else None
    said = _words(text)
    if not said and (chinese := stated_number(text)) is not None:
        return Quantity(Fraction(chinese))
    return said[0] if len({found.base for found in said}) == 1 else None


def _longest(piece: str) -> Quantity | None:
    """The number of a piece with the unit after it, or without a word that is none."""
    found = numbers.parse(piece)
    bare = numbers.parse(re.sub(r"\s?[a-zA-Z\u4e00-\u9fff]+$", "", piece))
    return bare if found is None or (found.unit is None and bare is not None) else found


def _words(text: str) -> list[Quantity]:
    """The numbers in words: `there are seven of them`; an article or a `no` is none."""
    found, words = [], re.findall(r"[a-zA-Z-]+|[\u4e00-\u9fff]+", text)
    at = 0
    while at < len(words):
        size = next((n for n in range(min(8, len(words) - at), 0, -1) if _is_number(words[at : at + n])), 0)
        if size and (one := numbers.parse(" ".join(words[at : at + size]))) is not None:
            found.append(one)
        at += size or 1
    return found


def _is_number(words: list[str]) -> bool:
    said = " ".join(words).lower()
    if words[0].lower() in {"no", "a", "and", "half", "quarter", "second", "third"} and len(words) == 1:
        return said == "half"
    found = numbers.parse(said)
    return found is not None and found.unit is None and not (found.name and len(words) > 1)


def number(truth: Number, answer: str) -> Judgement:
    """The stated number, in the truth's unit, within its tolerance."""
    asked = numbers.parse(f"{truth.value} {truth.unit}".strip())
    assert asked is not None
    said = stated(answer)
    if said is None:
        return Judgement(False, 0.0, "no single number")
    wrong, value = _in_unit_of(asked, said, truth)
    if wrong or value is None:
        return Judgement(False, 0.0, wrong or "no single number")
    candidates = [value, *([said.value] if _percent(said) and not _percent(asked) and not asked.dimensions else [])]
    right = any(_within(asked.value, candidate, truth) for candidate in candidates)
    verb = "is" if right else "is not"
    return Judgement(right, float(right), f"{_shown(value)} {verb} {truth.value} {truth.unit}".strip())


def _shown(value: Fraction) -> str:
    return f"{float(value):.10g}" if abs(value) < 10**300 else "a huge number"


def _percent(said: Quantity) -> bool:
    return said.unit is not None and not said.dimensions


def _in_unit_of(asked: Quantity, said: Quantity, truth: Number) -> tuple[str, Fraction | None]:
    """What is wrong with the unit, or the value in the truth's."""
    if asked.unit is None:
        return "", said.value * said.unit.factor if said.unit is not None and _percent(said) else said.value
    if said.unit is None:
        wrong = f"in {said.name!r}" if said.name else "no unit" if truth.unit_required else ""
        return (f"{wrong}, {truth.unit or truth.value} asked for", None) if wrong else ("", said.value)
    if not _comparable(asked, said):
        return f"a unit that {truth.unit or truth.value} cannot be told in", None
    return "", (said.base - asked.unit.offset) / asked.unit.factor


def _comparable(asked: Quantity, said: Quantity) -> bool:
    """Of one dimension; the sign ¥ is of yuan and of yen."""
    kinds = {asked.dimensions, said.dimensions}
    yen = (("¥", 1),)
    return len(kinds) == 1 or (yen in kinds and bool(kinds & {(("CNY", 1),), (("JPY", 1),)}))


def _within(asked: Fraction, said: Fraction, truth: Number) -> bool:
    far = abs(asked - said)
    if far <= Fraction(str(truth.rel_tol)) * abs(asked) or far <= Fraction(str(truth.abs_tol)):
        return True
    return truth.digits is not None and asked != 0 and far <= _half_place(asked, truth.digits)


def _half_place(value: Fraction, digits: int) -> Fraction:
    """Half a unit of the last of so many significant digits of `value`."""
    size = abs(value)
    exponent = len(str(size.numerator)) - len(str(size.denominator))
    while Fraction(10) ** exponent > size:
        exponent -= 1
    while Fraction(10) ** (exponent + 1) <= size:
        exponent += 1
    return Fraction(10) ** (exponent - digits + 1) / 2


def count(truth: Count, answer: str) -> Judgement:
    """The stated whole number; points that the answer marks must be as many, and alone they state it."""
    points = sum(isinstance(shape, grounding.Point) for shape in grounding.parse(answer)[0])
    prose = _unmarked(answer)
    said = stated(prose) if not points or prose.strip() else Quantity(Fraction(points))
    said = Quantity(Fraction(0)) if said is None and not points and _NONE.search(prose) else said
    if said is None or said.unit is not None or said.value.denominator != 1:
        return Judgement(False, 0.0, "not how many" if said else "no single number")
    if points and said.value != points:
        return Judgement(False, 0.0, f"says {_shown(said.value)} and marks {points}")
    right = said.value == truth.value
    return Judgement(right, float(right), f"says {_shown(said.value)}, there are {truth.value}")


def chart(truth: Chart, answer: str) -> Judgement:
    """Relaxed accuracy (ChartQA, arXiv 2203.10244, section 5): numbers within 5 %, other answers word for word."""
    if isinstance(truth.value, str):
        right = _relaxed(truth.value, answer, truth.rel_tol)
        return Judgement(right, float(right), f"{'as' if right else 'not as'} the chart says: {truth.value}")
    parts = [
        part.strip(" []()") for part in re.split(r"[,;、，]\s*(?!\d{3}\b)|\s+and\s+|\n", answer) if part.strip(" []()")
    ]
    hits = [[_relaxed(value, part, truth.rel_tol) for part in parts] for value in truth.value]
    right = len(parts) == len(truth.value) and matched(hits) == len(parts)
    return Judgement(right, float(right), f"{'as' if right else 'not as'} the chart says: {', '.join(truth.value)}")


def _relaxed(value: str, answer: str, rel_tol: float) -> bool:
    if plain(value) == plain(answer) or plain(value) == plain(last_line(answer)):
        return True
    asked = numbers.parse(value)
    if asked is None or asked.name:
        return False
    said = stated(answer)
    if said is None or (said.unit and asked.unit and said.dimensions != asked.dimensions):
        return False
    far = Fraction(str(rel_tol)) * abs(asked.value)
    candidates = {said.value} if not (said.unit and asked.unit) else {said.base / asked.unit.factor}
    candidates |= {said.base} if _percent(said) and not asked.unit else set()
    candidates |= {said.value * 100} if _percent(asked) and not said.unit else set()
    return any(abs(asked.value - candidate) <= far for candidate in candidates)


def matched(hits: list[list[bool]]) -> int:
    """The most rows that can each have a column of their own (augmenting paths)."""
    owner: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column, hit in enumerate(hits[row]):
            if hit and column not in seen:
                seen.add(column)
                if column not in owner or place(owner[column], seen):
                    owner[column] = row
                    return True
        return False

    return sum(place(row, set()) for row in range(len(hits)))
