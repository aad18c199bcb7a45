"""What can be said of two formulas without algebra: too long, the same string, two plain numbers, no value at all."""

import re
from fractions import Fraction

from data_engine.verify import numbers
from data_engine.verify.formula_text import normal
from data_engine.verify.judgement import Judgement

LONGEST = 1000

# White space that keeps no two words or numbers apart.
_GAPS = re.compile(r"(?<![A-Za-z0-9])\s+|\s+(?![A-Za-z0-9])")
_NAME = re.compile(r"(?:so|thus|hence|therefore|then|\\implies|\\therefore)?\s*\\?[A-Za-z]+'*(?:_\{?\w+\}?)?'*")
_LETTER = re.compile(r"[A-Za-z]")
_SIGNS = re.compile(r"\\(?:times|cdot|div|d?frac|sqrt|pi|d?binom|pm|%)(?![A-Za-z])")
_ARGUMENTS = re.compile(r"\([^()=]*\)|\\left|\\right")
_BETWEEN = re.compile(r"=|,|;|\\text|\\cup|\\\{|\\\}|\bor\b|\band\b")


def judge(gold: str, answer: str) -> Judgement | None:
    """A judgement, or None where algebra must be asked."""
    for name, text in (("truth", gold), ("answer", answer)):
        if len(text) > LONGEST:
            return Judgement(False, 0.0, f"the {name} is {len(text):,} characters long, a formula at most {LONGEST:,}")
    one, other = normal(gold), normal(answer)
    if not (one and other):
        return Judgement(False, 0.0, "no answer")
    if _GAPS.sub("", one) == _GAPS.sub("", other):
        return Judgement(True, 1.0, "the same formula")
    if ("=" in one) != ("=" in other) and not (_names_its_value(one) and _names_its_value(other)):
        return Judgement(False, 0.0, "an equation is no value")
    return _by_numbers(one, other)


def _names_its_value(text: str) -> bool:
    """No equation at all, or one whose left side is a name (x, f(x)) or of numbers alone, as in 70 + 99 = 169. To
    math-verify any equation is its right side."""
    parts = [part.strip() for part in _BETWEEN.split(_ARGUMENTS.sub("", text))]
    heads = parts[:-1] if "=" in text else []
    return all(_NAME.fullmatch(head) or not _LETTER.search(_SIGNS.sub("", head)) for head in heads)


def _by_numbers(one: str, other: str) -> Judgement | None:
    """Of two plain numbers; None where they are none, or so near that one may be the other's decimals."""
    first, second = numbers.parse(one), numbers.parse(other)
    if first is None or second is None or first.unit or second.unit or first.name or second.name:
        return None
    if first.value == second.value:
        return Judgement(True, 1.0, "the same number")
    if abs(first.value - second.value) > abs(first.value) * Fraction(1, 1000):
        return Judgement(False, 0.0, "another number")
    return None
