"""The factory's question, and the tables in which questions and their chains pass from step to step."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from cot_factory.record import Shown, Step, as_data, shown_from, step_from
from data_engine.sample import Media, Modality

How = Literal["as it was", "rewritten", "merged"]

_TEXTS = pa.list_(pa.string())
QUESTIONS = pa.schema(
    [(name, pa.string()) for name in ("id", "domain", "text", "reference")]
    + [("truths", _TEXTS), ("facts", _TEXTS), ("shown", pa.string())]
    + [(name, pa.string()) for name in ("modality", "task", "licence", "attribution", "source", "origin", "group")]
    + [("parents", _TEXTS), ("how", pa.string()), ("teacher", pa.string()), ("original", pa.string())]
)
CHAINS = pa.schema(
    [("question", pa.string()), ("path", pa.int32()), ("teacher", pa.string()), ("model", pa.string())]
    + [("text", pa.string()), ("steps", pa.string()), ("answer", pa.string()), ("finish", pa.string())]
    + [("tokens", pa.int32()), ("confidence", pa.float64()), ("answer_confidence", pa.float64())]
    + [("agreement", pa.float64())]
)
REFUSED = pa.schema([(name, pa.string()) for name in ("question", "reason", "said")])
ASSESSED = pa.schema(
    [*CHAINS, *[(name, pa.string()) for name in ("why", "tier", "reason")]]
    + [("right", pa.bool_()), ("redundancy", pa.float64())]
)
SELECTED = pa.schema([*ASSESSED, ("probability", pa.float64())])
MENDED = pa.schema([*SELECTED, ("original", pa.list_(pa.string())), ("mended", pa.bool_())])
Row = dict[str, Any]
"""A row of `CHAINS`, or of a table that grew out of it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and what is known. `reference` is the answer in words; `truths` is what answers are held against
    (`data_engine.verify.truth.Truth` as data): one, or one for each part of a merged question, whose answers are joined
    by `; `. `facts` are known of the pictures. `how` it came about; `original` is its words before it was rewritten,
    `parents` the questions it was made of.
    """

    domain: str
    text: str
    reference: str
    truths: tuple[Mapping[str, Any], ...]
    facts: tuple[str, ...] = ()
    shown: tuple[Shown, ...] = ()
    modality: Modality = "text"
    task: str = "reasoning"
    licence: str = ""
    attribution: str = ""
    source: str = ""
    origin: str = ""
    group: str = ""
    parents: tuple[str, ...] = ()
    how: How = "as it was"
    teacher: str = ""
    original: str = ""
    id: str = ""

    @property
    def media(self) -> tuple[Media, ...]:
        return tuple(Media(one.kind, one.key, one.start, one.end) for one in self.shown)


def named(question: Question) -> Question:
    """With its id: a hash of what is asked, of what is shown, and of the truth."""
    asked = (question.text, question.truths, question.facts, [as_data(one) for one in question.shown])
    return replace(question, id=xxhash.xxh3_128_hexdigest(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS))[:24])


def to_table(questions: Iterable[Question]) -> pa.Table:
    rows = [
        {
            **as_data(one),
            "truths": [_text(truth) for truth in one.truths],
            "shown": _text([as_data(item) for item in one.shown]),
        }
        for one in questions
    ]
    return pa.Table.from_pylist(rows, schema=QUESTIONS)


def from_table(table: pa.Table) -> list[Question]:
    return [
        Question(
            **{
                **row,
                "truths": tuple(map(orjson.loads, row["truths"])),
                "facts": tuple(row["facts"]),
                "parents": tuple(row["parents"]),
                "shown": tuple(map(shown_from, orjson.loads(row["shown"]))),
            }
        )
        for row in table.to_pylist()
    ]


def steps_text(steps: Iterable[Step]) -> str:
    """Steps as a table's column holds them."""
    return _text([as_data(step) for step in steps])


def steps_of(text: str) -> tuple[Step, ...]:
    return tuple(map(step_from, orjson.loads(text)))


def _text(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def read_part(units: pa.Table, questions: Path, rows: Path) -> tuple[dict[str, Question], list[Row]]:
    """The questions of the part that `units` names, by id, and its rows of another table."""
    name = units["part"][0].as_py()
    known = {one.id: one for one in from_table(pq.read_table(questions / name))}
    return known, pq.read_table(rows / name).to_pylist()


def chain_id(row: Mapping[str, Any]) -> str:
    return f"{row['question']}-{row['teacher']}-{row['path']}"


def ordered(parts: Iterable[pa.Table]) -> pa.Table:
    """All questions in one table, those about one picture beside each other, none twice."""
    whole = pa.concat_tables([QUESTIONS.empty_table(), *parts])
    rows = {row["id"]: row for row in whole.to_pylist()}
    found = sorted(rows.values(), key=lambda row: (row["domain"], row["shown"], row["id"]))
    return pa.Table.from_pylist(found, schema=QUESTIONS)
