"""English number words as exact numbers: seven, minus two hundred and five, twenty-one, two thirds, half a dozen."""

import re
from fractions import Fraction

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
)
_SMALL = {word: number for number, word in enumerate([*_ONES.split(), "eighteen", "nineteen"])}
_TENS = {
    word: 10 * n
    for n, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2)
}
_BIG = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8}
_PARTS |= {"ninth": 9, "tenth": 10}
_PARTS |= {f"{word}s": size for word, size in _PARTS.items()} | {"halves": 2}
_WORD = re.compile(r"([a-z]+)[\s-]*", re.IGNORECASE)


def parse(text: str) -> tuple[Fraction | None, str]:
    """The number whose words `text` begins with, and what comes after them; None and all of it where there is none."""
    words, ends = list[str](), list[int]()
    for found in _WORD.finditer(text):
        if found.start() != (ends[-1] if ends else 0) or not _counts(found[1].lower()):
            break
        words.append(found[1].lower())
        ends.append(found.end())
    for many in range(len(words), 0, -1):
        if (value := _value(words[:many])) is not None:
            more = any(word not in {"and", "a"} for word in words[many:])
            return (None, text) if more else (value, text[ends[many - 1] :])
    return None, text


def _counts(word: str) -> bool:
    return any(word in words for words in (_SMALL, _TENS, _BIG, _PARTS, {"hundred", "and", "a", "dozen"}))


def _value(words: list[str]) -> Fraction | None:
    if words[-1] == "dozen":
        many = _dozens(words[:-1])
        return None if many is None else 12 * many
    if words[-1] in _PARTS:
        return _fraction(words)
    whole = _whole(words)
    return None if whole is None else Fraction(whole)


def _dozens(words: list[str]) -> Fraction | None:
    if words in ([], ["a"]):
        return Fraction(1)
    return Fraction(1, 2) if words in (["half"], ["half", "a"]) else _value(words)


def _fraction(words: list[str]) -> Fraction | None:
    """Half, one half, three quarters, two and a half."""
    one = Fraction(1, _PARTS[words[-1]])
    before = words[:-1]
    if "and" in before:
        at = len(before) - 1 - before[::-1].index("and")
        whole, rest = _whole(before[:at]), _fraction([*before[at + 1 :], words[-1]])
        return whole + rest if whole is not None and rest is not None else None
    if before in ([], ["a"], ["one"]):
        return one if before or words[-1] in {"half", "quarter"} else None
    top = _whole(before)
    return None if top is None else top * one


def _whole(words: list[str]) -> int | None:
    """A whole number of all of the words; None where they make none (two seven)."""
    if not words or words[-1] == "and":
        return None
    if words[0] == "a":
        words = ["one", *words[1:]] if words[1:2] and words[1] in {"hundred", *_BIG} else ["and"]
    # The sum so far; the group of hundreds that is being said; the least place that is taken in it.
    total, group, last = 0, 0, 1000
    for word in words:
        step = _BIG.get(word)
        if step is not None and group and not (total and total % (step * 1000)):
            total, group, last = total + group * step, 0, 1000
        elif word == "hundred" and 0 < group < 100:
            group, last = group * 100, 100
        elif (
            (number := _SMALL.get(word, _TENS.get(word))) is not None and number < last and (number or len(words) == 1)
        ):
            group, last = group + number, 10 if word in _TENS else 0
        elif word != "and" or group % 100 or not group + total:
            return None
    return total + group
