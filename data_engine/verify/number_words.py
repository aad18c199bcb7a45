"""English number words as exact numbers: seven, minus two hundred and five, twenty-one, two thirds, half a dozen."""

import re
from fractions import Fraction

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
)
_SMALL = {word: number for number, word in enumerate([*_ONES.split(), "eighteen", "nineteen"])}
_TENS = {
    word: 10 * n for n, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2)
}
_BIG = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8}
_PARTS |= {"ninth": 9, "tenth": 10}
_PARTS |= {f"{word}s": size for word, size in _PARTS.items()} | {"halves": 2}
_WORD = re.compile(r"([a-z]+)[\s-]*", re.IGNORECASE)


def parse(text: str) -> tuple[Fraction | None, str]:
    """The number whose words `text` begins with, and what comes after them; None and all of it where there is none."""
    words, ends = [], []
    for found in _WORD.finditer(text):
        if found.start() != (ends[-1] if ends else 0) or not _counts(found[1].lower()):
            break
        words.append(found[1].lower())
        ends.append(found.end())
    for many in range(len(words), 0, -1):
        if (value := _value(words[:many])) is not None:
            return value, text[ends[many - 1] :]
    return None, text


def _counts(word: str) -> bool:
    return word in {"hundred", "and", "a", "dozen", "no", "none"} or any(
        word in t for t in (_SMALL, _TENS, _BIG, _PARTS)
    )


def _value(words: list[str]) -> Fraction | None:
    if words in (["none"], ["no"]):
        return Fraction(0)
    if words[-1] == "dozen":
        many = _value(words[:-1]) if words[:-1] not in ([], ["a"]) else Fraction(1)
        return _value(["half"]) * 12 if words[:-1] in (["half"], ["half", "a"]) else many and many * 12  # type: ignore[operator]
    if words[-1] in _PARTS:
        return _fraction(words)
    whole = _whole(words)
    return None if whole is None else Fraction(whole)


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
    total, group, last = 0, 0, 10**15  # `last`: the least place that is taken, which the next word must stay below
    for at, word in enumerate(words):
        if word == "and":
            if at in {0, len(words) - 1} or group % 100:
                return None
        elif word == "a":
            if at or len(words) < 2 or words[1] not in {"hundred", *_BIG}:
                return None
            group, last = 1, 1
        elif word in _SMALL or word in _TENS:
            number = _SMALL.get(word, _TENS.get(word, 0))
            if last <= number or (number == 0 and len(words) > 1):
                return None
            group, last = group + number, 10 if word in _TENS else 1
        elif word == "hundred":
            if not 0 < group < 100:
                return None
            group, last = group * 100, 100
        elif word in _BIG:
            if not group or (total and total % (_BIG[word] * 1000)):
                return None
            total, group, last = total + group * _BIG[word], 0, 10**15
        else:
            return None
    return total + group if words else None
