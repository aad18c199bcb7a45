"""Times as people and models write them: 83.5, 83.5s, 1:23.5, 00:01:23, 1m23s, 1分23秒."""

import re

_AMOUNT = r"\d{1,9}(?:\.\d{1,9})?"
_CLOCK = re.compile(r"(?:(\d{1,4}):)?(\d{1,4}):(\d{1,2}(?:\.\d{1,9})?)")
_HOUR = r"h(?:ours?|rs?)?|小时|时"
_MINUTE = r"m(?:in(?:ute)?s?)?|分钟|分"
_SECOND = r"s(?:ec(?:ond)?s?)?|秒钟?"
_PARTS = re.compile(
    rf"(?:({_AMOUNT})\s*(?:{_HOUR})\.?\s*)?(?:({_AMOUNT})\s*(?:{_MINUTE})\.?\s*)?(?:({_AMOUNT})\s*(?:{_SECOND})\.?)?",
    re.IGNORECASE,
)
# One time within a text; tried in this order.
TIME = (
    r"(?:\d{1,4}:)?\d{1,4}:\d{2}(?:\.\d{1,9})?(?:\s*(?:s|sec)\b)?"
    rf"|(?:{_AMOUNT}\s*(?:{_HOUR})\s*)?(?:{_AMOUNT}\s*(?:{_MINUTE})\s*)?{_AMOUNT}\s*(?:{_SECOND})(?![a-z])"
    rf"|{_AMOUNT}\s*(?:{_HOUR})\s*{_AMOUNT}\s*(?:{_MINUTE})(?![a-z])"
    rf"|{_AMOUNT}\s*(?:{_MINUTE})(?![a-z])"
    rf"|{_AMOUNT}"
)


def seconds(text: str) -> float:
    """The seconds that a time states. Raises ValueError for what is no time (1:75 is none)."""
    said = text.strip()
    if re.fullmatch(_AMOUNT, said):
        return float(said)
    if clock := _CLOCK.fullmatch(re.sub(r"\s*(?:s|sec)$", "", said)):
        hours, minutes, rest = int(clock[1] or 0), int(clock[2]), float(clock[3])
        if rest < 60 and (clock[1] is None or minutes < 60):
            return hours * 3600 + minutes * 60 + rest
    elif (parts := _PARTS.fullmatch(said)) and any(parts.groups()):
        return sum(float(part) * size for part, size in zip(parts.groups(), (3600, 60, 1), strict=True) if part)
    raise ValueError(f"{text[:40]!r} is no time: write seconds, mm:ss or hh:mm:ss")
