"""Chinese numerals as numbers: 一百二十, 两万零三, 廿五, 二〇二六; in simplified form (see `words.folded`)."""

_DIGITS = {digit: value for value, digit in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_TENS = str.maketrans({"廿": "二十", "卅": "三十"})
UNITS = {"亿": 10**8, "万": 10**4, "千": 1000, "百": 100, "十": 10}
LETTERS = "".join((*_DIGITS, *UNITS, "廿卅"))


def parse(numeral: str) -> int | None:
    """The number that a numeral states; None for what is none, or no certain one (三四: three or four)."""
    numeral = numeral.translate(_TENS)
    if any(unit in numeral for unit in UNITS):
        return _value(numeral)
    digits = [_DIGITS.get(letter) for letter in numeral]
    told = len(digits) == 1 or len(digits) > 2 or 0 in digits
    return int("".join(map(str, digits))) if digits and told and None not in digits else None


def _value(numeral: str) -> int | None:
    """Head, unit and tail by the greatest unit: (head) * unit + (tail)."""
    unit = next((unit for unit in UNITS if unit in numeral), None)
    if unit is None:
        return _DIGITS.get(numeral)
    head, _, tail = numeral.rpartition(unit) if unit == "亿" else numeral.partition(unit)
    size = UNITS[unit]
    many = _value(head) if head or unit != "十" else 1
    rest = _rest(tail, size)
    most = 10 if size < 10**4 else 10**4 if size == 10**4 else 10**8
    if many is None or rest is None or not 0 < many < most or rest >= size:
        return None
    return many * size + rest


def _rest(tail: str, size: int) -> int | None:
    """What comes after a unit: 零三 is 3, and 二 alone after 百 is 20, as people say it."""
    if not tail:
        return 0
    if len(tail) == 1 and size > 10:
        digit = _DIGITS.get(tail)
        return digit * size // 10 if digit else None
    return _value(tail.lstrip("零〇")) if tail[0] in "零〇" else _value(tail)
