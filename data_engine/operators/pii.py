"""Personal data in text: found by form and checksum, counted, and masked with a mark of its kind such as <EMAIL>."""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_engine.operators.base import Operator, reasons
from data_engine.words import folded, folded_text


class Kind(NamedTuple):
    """One kind of personal data: the mark it is replaced by, what it looks like, and what makes it real."""

    mark: str
    pattern: re.Pattern[str]
    is_real: Callable[[str], bool] = bool  # whatever looks like it


def luhn(digits: str) -> bool:
    """Does a number's last digit check the others (ISO/IEC 7812-1, annex B)?"""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def identity_check(number: str) -> bool:
    """Does the last character of an 18-character Chinese identity number check the others (GB 11643, ISO 7064)?"""
    weighted = sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(number[:17]))
    return "10X98765432"[weighted % 11] == number[17].upper()


def _is_card(text: str) -> bool:
    digits = _digits(text)
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and luhn(digits)


def _is_phone(text: str) -> bool:
    return 8 <= len(_digits(text)) <= 15


def _is_public_address(text: str) -> bool:
    """Private, loopback and documentation addresses belong to nobody."""
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


_INTERNATIONAL, _US = r"\+[1-9]\d{0,2}(?:[ .-]?\(?\d{1,4}\)?){2,5}", r"(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}"
_BIRTHDAY = r"(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
# In this order: what is found first is masked and not looked at again. An identity number may pass as a card.
KINDS = {
    "email": Kind("<EMAIL>", _compiled(r"[A-Za-z0-9][\w.%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}")),
    "cn_id": Kind("<CN_ID>", _compiled(rf"(?<!\d)[1-9]\d{{5}}{_BIRTHDAY}\d{{3}}[\dXx](?![\dA-Za-z])"), identity_check),
    "card": Kind("<CARD>", _compiled(r"(?<![\d.-])[2-6](?:[ -]?\d){12,18}(?![\d-])"), _is_card),
    "ip": Kind(
        "<IP>",
        _compiled(
            r"(?<![\w.])(?<![\d:]:)(?:(?:\d{1,3}\.){3}\d{1,3}(?!\.?\w)|(?!:[^:])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{1,4}|(?<=::))(?!\w|:[\w:]))"
        ),
        _is_public_address,
    ),
    "cn_mobile": Kind("<CN_MOBILE>", _compiled(r"(?<![\d+-])(?:\+?86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?!\d)")),
    "phone": Kind(
        "<PHONE>",
        _compiled(rf"(?<![\d+.-])(?:{_INTERNATIONAL}|{_US})(?!\d)"),
        _is_phone,
    ),
}
# A superset of all of them in RE2, which has no look-around: what it passes over has none.
SUSPECT = (
    r"[A-Za-z0-9_%+.-]@[A-Za-z0-9-]|(?:[0-9Xx][ .()-]{0,3}){8}|[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|:[0-9A-Fa-f]{0,4}:"
)


class Pii(Operator):
    """Personal data: e-mail and IP addresses, phone and card numbers, Chinese mobile and identity numbers.

    `action: drop` drops samples with more than `allowed` of them; `mask` drops none: the rewrite `mask_pii` masks them.
    """

    looks_at: ClassVar[tuple[str, ...]] = tuple(f"pii_{kind}" for kind in KINDS)
    action: Literal["mask", "drop"] = "mask"
    allowed: int = 0

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        text = batch["text"]
        rows = np.flatnonzero(suspect(text))
        found = np.zeros((len(KINDS), len(text)), np.int32)
        for row, words in zip(rows, text.take(pa.array(rows)).to_pylist(), strict=True):
            counts = count(words)
            found[:, row] = [counts[kind] for kind in KINDS]
        return {f"pii_{kind}": pa.array(values) for kind, values in zip(KINDS, found, strict=True)}

    def decide(self, measures: pa.Table) -> pa.Array:
        kinds = [(measures[f"pii_{kind}"], f"personal data: {kind}") for kind in KINDS]
        if self.action == "mask":
            return pa.nulls(len(measures), pa.string())
        total = np.sum([counts.to_numpy() for counts, _ in kinds], axis=0)
        too_many = pa.array(total > self.allowed)
        return reasons(*((pc.and_(too_many, pc.greater(counts, 0)), reason) for counts, reason in kinds))


def suspect(text: pa.Array | pa.ChunkedArray, pattern: str = SUSPECT) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which texts may have something, in whatever form it is written: the rows worth a closer look."""
    hits: np.ndarray[tuple[int], np.dtype[np.bool_]] = pc.fill_null(
        pc.match_substring_regex(folded(text), pattern), False
    ).to_numpy(zero_copy_only=False)
    return hits


def mask(text: str) -> str:
    """The text with every piece of personal data replaced by the mark of its kind."""
    return masked(text)[0]


def count(text: str) -> Counter[str]:
    """How often each kind occurs."""
    return masked(text)[1]


def masked(text: str) -> tuple[str, Counter[str]]:
    """The text as `mask` leaves it, and how many of each kind were masked."""
    counts: Counter[str] = Counter()
    plain = folded_text(text)  # character for character: what is found there is cut out here
    for name, kind in KINDS.items():
        found = [match for match in kind.pattern.finditer(plain) if kind.is_real(match[0])]
        counts[name] += len(found)
        for match in reversed(found):
            text, plain = (kind.mark.join((form[: match.start()], form[match.end() :])) for form in (text, plain))
    return text, counts
