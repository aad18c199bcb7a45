"""What may be used: a policy on licences that is a gate, not a note; and the attribution that is owed.

A licence string holds one or several names: parts joined by `,` `;` `/` `+` `&` `|` or ` AND ` must all be permitted,
of alternatives joined by ` OR ` one is enough. Names are compared as `plain_name` writes them, `*` stands for
anything, and a remark in parentheses behind a name is ignored. `teacher:NAME` says that a model wrote part of it.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from data_engine.media import write_atomic
from strict_yaml import Strict

TEACHER = "teacher:"
_REMARK = re.compile(r"(?<=[\w.+*:-])\s*(?<!\bAND )(?<!\bOR )\([^()]*\)", re.IGNORECASE)


# An address, or a teacher, is one name, whatever stands in it; meanwhile its marks are characters of no one's.
_ONE_NAME = re.compile(r"(?:https?://|teacher:\s*)[^\s,;，；、]+", re.IGNORECASE)
_HIDDEN = dict(zip("/+&|", "\ue000\ue001\ue002\ue003", strict=True))
_HIDE, _SHOW = str.maketrans(_HIDDEN), str.maketrans({there: mark for mark, there in _HIDDEN.items()})
_ALL_OF = re.compile(r"[,;/&|，；、]|\+(?=\w)|\s\+\s|\s+AND\s+", re.IGNORECASE)
_LATER = re.compile(
    r"[\s-]+or[\s-]+(?:any[\s-]+)?(?:later|newer)(?:[\s-]+versions?)?\b|,?\s+(?=version\s)", re.IGNORECASE
)
_ADDRESS = re.compile(r"https?://(?:\w+\.)?creativecommons\.org/(?:licenses|publicdomain)/([\w.+/-]+)", re.IGNORECASE)
# What people write out, between dashes or at an end (a pattern's `*` is neither), and the short form.
_WORDS = tuple(
    (re.compile(rf"(?<![\w*.])(?:{words})(?![\w*.])"), short)
    for words, short in (
        (r"CREATIVE-COMMONS", "CC"),
        (r"NON-?COMMERCIAL", "NC"),
        (r"NO-?DERIV(?:ATIVE|ATIVES|S)?(?:-WORKS)?", "ND"),
        (r"SHARE-?ALIKE", "SA"),
        (r"ATTRIBUTION|(?<=CC-)ATTRIB", "BY"),
        (r"^THE|(?:PUBLIC-)?LICEN[CS]E|INTERNATIONAL|UNPORTED|GENERIC|VERSION", ""),
    )
)


class Teacher(Strict):
    """A model whose outputs are in the data: under which terms, and whether those allow to train on them."""

    terms: str
    outputs_allowed: bool


class Rights(Strict):
    """Patterns of licence names: those allowed (none given: all), those refused, those that owe attribution."""

    allowed: list[str] = Field(default_factory=list)
    refused: list[str] = Field(default_factory=list)
    attribution: list[str] = Field(default_factory=lambda: ["*"])
    teachers: dict[str, Teacher] = Field(default_factory=dict)


def clauses(licence: str) -> list[list[str]]:
    """The parts of a licence string, each a list of alternatives: by textual order, so that no part is passed over."""
    whole = _ONE_NAME.sub(lambda found: found[0].translate(_HIDE), licence)
    parts = _ALL_OF.split(_LATER.sub(_later, _REMARK.sub("", whole)))
    found = [[_name(one) for one in re.split(r"\s+OR\s+", part, flags=re.IGNORECASE)] for part in parts]
    return [kept for names in found if (kept := [name for name in names if name])]


def _later(found: re.Match[str]) -> str:
    """`or any later version` is no alternative, and `, Version 2.0` no second name."""
    return "-or-later" if "or" in found[0].lower() else " "


def _name(text: str) -> str:
    return " ".join(text.translate(_SHOW).strip("() \t\n").split())


def plain_name(name: str) -> str:
    """A licence's name, or a pattern of names, as SPDX would write it, in capitals with dashes.

    `CC BY-NC 4.0`, `Creative Commons Attribution-NonCommercial 4.0 International` and
    `https://creativecommons.org/licenses/by-nc/4.0/` are all `CC-BY-NC-4.0`. Doing it again changes nothing.
    """
    text = unicodedata.normalize("NFKC", name).strip()
    if address := _ADDRESS.match(text):
        parts = [part for part in address[1].upper().split("/") if part and not part.startswith(("DEED", "LEGALCODE"))]
        text = "-".join(["CC0" if parts[:1] == ["ZERO"] else f"CC-{parts[0]}" if parts else "CC", *parts[1:2]])
    if "://" not in text:
        text = _dashed(re.sub(r"(?<=\w)[\s_-]*v(?:ersion)?\.?[\s_]?(?=\d)", "-", text, flags=re.IGNORECASE))
        for pattern, short in _WORDS:
            text = _dashed(pattern.sub(short, text)) or text
        text = re.sub(r"^(?=BY(?:-|$))", "CC-", text)
    return text.upper()


def _dashed(text: str) -> str:
    return re.sub(r"[\s_-]+", "-", text).strip("-").upper()


def matches(licence: str, patterns: Sequence[str]) -> str | None:
    """The first pattern that any name in the licence fits, if one does."""
    names = [name for names in clauses(licence) for name in names]
    return next((pattern for pattern in patterns for name in names if _fits(name, pattern)), None)


def _fits(name: str, pattern: str) -> bool:
    # Only `*` is special: brackets and question marks in a licence's name are themselves.
    escape = partial(re.sub, r"([\[?])", r"[\1]")
    return any(fnmatchcase(form(name), escape(form(pattern))) for form in (str.casefold, plain_name))


def refusal(licence: str, policy: Rights) -> str | None:
    """Why a licence may not be used, in a few words; None if it may."""
    found = clauses(licence)
    if not found and policy.allowed:
        return "no licence is known, and rights.allowed asks for one"
    for names in found:
        reasons = [_refusal_of(name, policy) for name in names]
        if all(reasons):
            return reasons[0]
    return None


def _refusal_of(name: str, policy: Rights) -> str | None:
    if name.casefold().startswith(TEACHER):
        return _refusal_of_teacher(name[len(TEACHER) :].strip(), policy.teachers)
    if pattern := next((one for one in policy.refused if _fits(name, one)), None):
        return f"licence {name} is refused" + (f" ({pattern})" if pattern.casefold() != name.casefold() else "")
    if policy.allowed and not any(_fits(name, one) for one in policy.allowed):
        return f"licence {name} is not allowed"
    return None


def _refusal_of_teacher(name: str, teachers: Mapping[str, Teacher]) -> str | None:
    teacher = {known.casefold(): terms for known, terms in teachers.items()}.get(name.casefold())
    if teacher is None:
        return f"teacher {name} has no terms in rights.teachers"
    return None if teacher.outputs_allowed else f"teacher {name}: its terms ({teacher.terms}) allow no training"


def drop_reasons(samples: pa.Table, policy: Rights) -> pa.Array:
    """Per row (column `licence`) why its own licence forbids its use, null where it does not."""
    column = samples["licence"]
    names = pc.unique(column)
    reasons = pa.array([refusal(name or "", policy) for name in names.to_pylist()], pa.string())
    found = pc.index_in(column, value_set=names)
    return reasons.take(found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found)


Owed = Counter[tuple[str, str, str]]


def owed(parts: Sequence[Path], policy: Rights) -> Owed:
    """How many samples of these parquet parts are under each (licence, attribution, corpus) that owes attribution."""
    found: Owed = Counter()
    for part in parts:
        table = pq.read_table(part, columns=["licence", "attribution", "corpus"])
        counts = table.group_by(["licence", "attribution", "corpus"]).aggregate([([], "count_all")])
        for row in counts.to_pylist():
            if matches(row["licence"] or "", policy.attribution):
                found[row["licence"], row["attribution"] or "", row["corpus"]] += row["count_all"]
    return found


def write_attribution(parts: Sequence[Path], policy: Rights, path: Path) -> None:
    """`ATTRIBUTION.md`: what is owed to whom for the samples of these parts, as one table."""
    rows = [
        f"| {_cell(licence)} | {_cell(attribution) or '*none given*'} | {_cell(corpus)} | {count:,} |"
        for (licence, attribution, corpus), count in sorted(owed(parts, policy).items())
    ]
    head = ["# Attribution", "", "| licence | attribution | corpus | samples |", "| --- | --- | --- | ---: |"]
    write_atomic(path, ("\n".join([*head, *rows]) + "\n").encode())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")
