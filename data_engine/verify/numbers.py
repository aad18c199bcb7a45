"""Numbers as people and models write them, exactly: 1,234.5, 3 1/2, 6.02×10^23, 45%, $3.50, 一百二十, 5 ft 3 in.

What is no one number is none: a range (3-5), a bound (more than 3), a list.
"""

import functools
import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from data_engine import numerals
from data_engine.verify import number_words, units
from data_engine.verify.units import Dimensions, Unit
from data_engine.words import folded_text

LONGEST = 200
MOST_EXPONENT = 400


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number `value` as it is written, in `unit` (None without one). `name`: the words of a unit that is not known
    (apples)."""

    value: Fraction
    unit: Unit | None = None
    name: str = ""

    @property
    def base(self) -> Fraction:
        """In the base units of its dimensions (metres, kilograms, seconds, radians, kelvins, bits, ...)."""
        return self.value if self.unit is None else self.value * self.unit.factor + self.unit.offset

    @property
    def dimensions(self) -> Dimensions:
        return () if self.unit is None else self.unit.dimensions


_MINUS = dict.fromkeys(map(ord, "−–—‒﹣－‐‑⁻"), "-")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_LATEX = [
    (r"\\(?:left|right|displaystyle|[,;:!])|\\ |~", " "), (r"\{,\}", ","), (r"\\[dtc]frac", r"\\frac"),
    (r"\\(?:text|mathrm|mathbf|textbf|operatorname|rm|mbox|bf)\s*\{([^{}]*)\}", r" \1 "),
    (r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r" (\1)/(\2)"), (r"\\frac\s*(\d)\s*(\d)", r" \1/\2"),
    (r"\^\s*\{?\s*\\circ\s*\}?|\\circ|\\degree", "°"), (r"\\(?:times|cdot|ast)(?![a-zA-Z])", "×"),
    (r"\^\s*\{([^{}]*)\}", r"^\1"),
    (r"\\([%$])", r"\1"), (r"\\pm\b", "±"), (r"\\(?:approx|sim|simeq)\b", "≈"), (r"\\cdotp?", "×"),
]  # fmt: skip
_LATEX_RULES = [(re.compile(pattern), by) for pattern, by in _LATEX]
_CURRENCY = re.compile(r"^(-?)\s*(US\$|USD|EUR|GBP|CNY|RMB|JPY|INR|[$€£¥₹])\s*(-?)\s*")
_ABOUT = re.compile(
    r"^(?:(?:≈|~|=|about|approximately|approx\.?|roughly|around|nearly|exactly|only|just"
    r"|a total of|total of|a|an|the|大约|约|共|一共)\s*)+",
    re.IGNORECASE,
)
_GROUPED = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?:[ \u202f']\d{3})+(?:\.\d+)?|\d{1,3}(?:\.\d{3})+,\d+"
_DECIMAL = rf"(?:{_GROUPED}|\d+(?:\.\d*)?|\.\d+)"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*(?:(?P<whole>\d+)(?:\s+|\s*\+\s*)(?P<top>\d+)\s*/\s*(?P<under>\d+)"
    r"|10\s*(?:\^|\*\*)\s*\(?\s*(?P<ten>[-+]?\d{1,4})\s*\)?"
    rf"|\(?\s*(?P<over>[-+]?{_DECIMAL})\s*\)?\s*/\s*\(?\s*(?P<below>[-+]?{_DECIMAL})\s*\)?"
    rf"|(?P<decimal>{_DECIMAL})(?:\s*[x×*]\s*10\s*(?:\^|\*\*)\s*\(?\s*(?P<power>[-+]?\d{{1,4}})\s*\)?"
    r"|[eE](?P<e>[-+]?\d{1,4}))?)"
)
_MANY = {
    "hundred": 2, "thousand": 3, "million": 6, "mn": 6, "billion": 9, "bn": 9, "trillion": 12, "千": 3, "万": 4,
    "百万": 6, "亿": 8, "万亿": 12,
}  # fmt: skip
_MANY_WORDS = re.compile(
    rf"\s*(?:({'|'.join(sorted(_MANY, key=len, reverse=True))})(?![a-z])|([kKMBT])(?![A-Za-z/]))", re.IGNORECASE
)
_SHORT = {"k": 3, "M": 6, "B": 9, "T": 12, "K": 3}
_NOT_ONE = re.compile(
    r"^(?:[<>≤≥±]|\\[lg]e|(?:more|less|fewer|greater) than|at least|at most|over|under|between|from|up to)|±",
    re.IGNORECASE,
)
_UNIT_END = re.compile(r"^[^\d,;=<>+]*(?:\^?-?\d(?!\d)[^\d,;=<>+]*)*$")


@functools.lru_cache(maxsize=8192)
def parse(text: str) -> Quantity | None:
    """The one number that all of `text` states, with its unit; None for what is none, or not one."""
    if len(text) > LONGEST:
        return None
    said = _plain(text)
    if not said or _NOT_ONE.search(said):
        return None
    said = _ABOUT.sub("", said).strip()
    return _with_currency(said) or _in_digits(said) or _in_words(said)


def _plain(text: str) -> str:
    """One line without LaTeX's dress: minus signs of one kind, powers as ^, vulgar fractions as a/b."""
    said = _RAISED.sub(lambda found: f"^{found[0].translate(_SUPERSCRIPT)}", text.strip())
    said = "".join(_character(letter) for letter in said)
    said = said.strip("$").strip() if said.startswith("$") and said.endswith("$") else said
    said = said.removeprefix("\\(").removesuffix("\\)").removeprefix("\\[").removesuffix("\\]")
    for pattern, by in _LATEX_RULES:
        said = pattern.sub(by, said)
    said = unicodedata.normalize("NFKC", said).translate(_MINUS)
    said = re.sub(r"^\s*(?:minus|negative|负)\s*", "-", said, flags=re.IGNORECASE)
    said = " ".join(said.strip().strip("*_`").split())
    while said.startswith("(") and said.endswith(")") and "(" not in said[1:]:
        said = said[1:-1].strip()
    return re.sub(r"(?<=[\w%°)$])[.。]$", "", said) if not re.fullmatch(r"-?\d+\.", said) else said


def _character(letter: str) -> str:
    if unicodedata.decomposition(letter).startswith("<fraction>"):
        return " " + unicodedata.normalize("NFKC", letter).replace("\u2044", "/")
    return letter


def _with_currency(said: str) -> Quantity | None:
    found = _CURRENCY.match(said)
    if found is None:
        return None
    amount = _number(said[found.end() :], money=True)
    if amount is None or amount[1].strip().lower() not in {"", "usd", "dollars", "each", "in total"}:
        return None
    sign = -1 if found[1] or found[3] else 1
    return Quantity(sign * amount[0], units.parse(found[2]))


def _in_digits(said: str) -> Quantity | None:
    """A number and its unit; several of one dimension, falling, add up (5 ft 3 in)."""
    total, sizes = None, list[Fraction]()
    while said:
        amount = _number(said)
        if amount is None:
            return None
        value, rest = amount
        cut = re.search(r"(?:,\s*|\s+and\s+|\s+|(?<=[^\d\s/^-]))(?=\d)", rest)
        name = rest[: cut.start()] if cut else rest
        one = _measured(value, name.strip(" -"))
        if one is None or (total is not None and not _smaller(total, one, sizes)):
            return None
        if cut and (one.unit is None or one.unit.offset or not one.dimensions or value.denominator != 1):
            return None
        if one.unit is not None:
            sizes.append(one.unit.factor)
        total = one if total is None or total.unit is None or one.unit is None else _sum(total, one)
        said = rest[cut.end() :] if cut else ""
    return total


def _smaller(total: Quantity, part: Quantity, sizes: list[Fraction]) -> bool:
    fits = part.unit is not None and part.value >= 0 and part.dimensions == total.dimensions
    return fits and part.unit is not None and part.unit.factor < sizes[-1]


def _sum(total: Quantity, part: Quantity) -> Quantity:
    assert total.unit is not None and part.unit is not None
    sign = -1 if total.value < 0 else 1
    return Quantity(total.value + sign * part.value * part.unit.factor / total.unit.factor, total.unit)


# What may follow a unit and says nothing of it: 3.5 cm long.
_FREE = re.compile(
    r"\s+(?:long|wide|high|tall|deep|thick|away|apart|old|in total|in all|altogether|each)$", re.IGNORECASE
)


def _measured(value: Fraction, name: str) -> Quantity | None:
    name = _FREE.sub("", name)
    if not name or name in {"st", "nd", "rd", "th"}:  # the 2nd is no 2
        return None if name else Quantity(value)
    if name.split()[0] == "dozen":
        return _measured(value * 12, name[5:].strip())
    unit = units.parse(name)
    if unit is not None:
        return Quantity(value, unit)
    return (
        Quantity(value, None, name)
        if len(name.split()) <= 4 and re.fullmatch(r"[^\W\d_][^\d=<>+*/^\\,;]*", name)
        else None
    )


def _number(said: str, money: bool = False) -> tuple[Fraction, str] | None:
    """The number that `said` begins with, and what comes after it."""
    found = _NUMBER.match(said)
    if found is None:
        return None
    value = _value(found)
    rest = said[found.end() :]
    if value is None or re.match(r"\s*[-/:]\s*\d|\s*(?:to|or|or so)\b|[.,]\d|\s*\+|-\s*$", rest):
        return None
    many = _MANY_WORDS.match(rest)
    if many and (many[1] or many[2] in ("kM" if not money else "kKMBT")):
        value *= 10 ** (_MANY[many[1].lower()] if many[1] else _SHORT[many[2]])
        rest = rest[many.end() :]
    return value, rest


def _value(found: re.Match[str]) -> Fraction | None:
    sign = -1 if found["sign"] == "-" else 1
    if found["whole"]:
        under = int(found["under"])
        return sign * (int(found["whole"]) + Fraction(int(found["top"]), under)) if under else None
    if found["over"]:
        below = _decimal(found["below"])
        return sign * _decimal(found["over"]) / below if below else None
    power = int(found["power"] or found["e"] or found["ten"] or 0)
    if abs(power) > MOST_EXPONENT:
        return None
    return sign * (_decimal(found["decimal"]) if found["decimal"] else 1) * Fraction(10) ** power


def _decimal(digits: str) -> Fraction:
    digits = re.sub(r"[ \u202f']", "", digits)
    if re.fullmatch(r"[-+]?\d{1,3}(?:\.\d{3})+,\d+", digits):
        return Fraction(digits.replace(".", "").replace(",", "."))
    return Fraction(digits.replace(",", ""))


_CHINESE = re.compile(rf"([{numerals.LETTERS}]+)(?:点([零〇一二三四五六七八九]+))?(.*)")


def _in_words(said: str) -> Quantity | None:
    """Seven, twenty-one, three quarters, 一百二十, 三点五, 百分之五."""
    sign, said = (-1, said[1:].strip()) if said.startswith("-") else (1, said)
    value, rest = number_words.parse(said)
    if value is not None:
        return _measured(sign * value, rest)
    chinese = folded_text(said)
    percent = chinese.startswith("百分之")
    found = _CHINESE.fullmatch(chinese.removeprefix("百分之"))
    number = numerals.parse(found[1]) if found else None
    if found is None or number is None:
        digits = parse(chinese.removeprefix("百分之")) if percent and len(chinese) > 3 else None
        return Quantity(sign * digits.value, units.parse("%")) if digits and not digits.unit else None
    tail = "".join(str("零一二三四五六七八九".index(digit.replace("〇", "零"))) for digit in found[2] or "")
    value = sign * Fraction(f"{number}.{tail or 0}")
    return Quantity(value, units.parse("%")) if percent else _measured(value, found[3].strip())
