"""The factory's work on one partition: plain functions from a part's name to tables, whoever runs them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from data_engine.verify.extract import final_answer

from cot_factory import collect, costs, enhance, generate, people, repair, score
from cot_factory.asking import Desk
from cot_factory.assess.steps import split
from cot_factory.assessing import assessed, needs_people
from cot_factory.question import CHAINS, QUESTIONS, Question, from_table, steps_of, steps_text, to_table
from cot_factory.recipe import Factory
from cot_factory.record import Step
from data_engine.ingest import QUARANTINE_SCHEMA
from data_engine.media import MediaStore
from data_engine.sources.common import Quarantined
from data_engine.teachers.counts import Counts

Row = dict[str, Any]
Tables = Mapping[str, pa.Table]
REFUSED = pa.schema([(name, pa.string()) for name in ("question", "reason", "said")])
ASSESSED = pa.schema(
    [*CHAINS, *[(name, pa.string()) for name in ("why", "tier", "reason")]]
    + [("right", pa.bool_()), ("redundancy", pa.float64())]
)
SELECTED = pa.schema([*ASSESSED, ("probability", pa.float64())])
MENDED = pa.schema([*SELECTED, ("original", pa.list_(pa.string())), ("mended", pa.bool_())])
SCORED = pa.schema(
    [("chain", pa.string()), ("question", pa.string()), ("by", pa.string()), ("why", pa.string())]
    + [(name, pa.int32()) for name in ("score", "low", "high")]
    + [("pass_rate", pa.float64()), ("blind_rate", pa.float64())]
)


def collected(units: pa.Table, *, recipe: Factory, store: Path) -> Tables:
    """An entry of the recipe's `questions` to its questions, and to what cannot be used."""
    spec = recipe.questions[units["entry"][0].as_py()]
    found = list(collect.collect(spec, Path(recipe.root), MediaStore(store)))
    refused = [{**asdict(item), "source": ""} for item in found if isinstance(item, Quarantined)]
    return {
        "questions": to_table(item for item in found if isinstance(item, Question)),
        "quarantine": pa.Table.from_pylist(refused, schema=QUARANTINE_SCHEMA),
    }


def enhanced(part: pa.Table, *, recipe: Factory, desk: Desk) -> Tables:
    desk = replace(desk, counts=Counts())
    done = list(enhance.enhance(from_table(part), recipe.enhance, recipe.generate, desk))
    refused = [asdict(item) for item in done if isinstance(item, enhance.Refused)]
    return {
        "questions": to_table(item for item in done if isinstance(item, Question)),
        "refused": pa.Table.from_pylist(refused, schema=REFUSED),
        **costs.table(desk.counts),
    }


def generated(part: pa.Table, *, recipe: Factory, desk: Desk) -> Tables:
    """Questions to `chains`, and to `refused` what a teacher did not answer."""
    desk = replace(desk, counts=Counts())
    rows: list[Row] = []
    refused: list[Row] = []
    for question, chains, failures in generate.chains(from_table(part), recipe.generate, desk):
        rows += chains
        refused += [{"question": question.id, "reason": one.reason, "said": one.detail} for one in failures]
    return {
        "chains": pa.Table.from_pylist(rows, schema=CHAINS),
        "refused": pa.Table.from_pylist(refused, schema=REFUSED),
        **costs.table(desk.counts),
    }


def assessed_part(units: pa.Table, *, recipe: Factory, desk: Desk, questions: Path, chains: Path) -> Tables:
    desk = replace(desk, counts=Counts())
    known, rows = _part(units, questions, chains)
    found = list(assessed([(known[row["question"]], row) for row in rows], recipe.assess, desk))
    return {"assessed": pa.Table.from_pylist(found, schema=ASSESSED), **costs.table(desk.counts)}


def mended(units: pa.Table, *, recipe: Factory, desk: Desk, questions: Path, selected: Path) -> Tables:
    """The selected chains; those that people are to see as a teacher mended them, where the recipe says so."""
    desk = replace(desk, counts=Counts())
    known, rows = _part(units, questions, selected)
    flawed = [row for row in rows if needs_people(row, recipe.assess)] if recipe.review.repair else []
    pairs = [(known[row["question"]], row) for row in flawed]
    told = repair.repaired(pairs, recipe.review.repair, recipe.generate, desk)
    new = [(one, _rewritten(row, text), row) for (one, row), text in zip(pairs, told, strict=True) if text]
    judged = assessed([(one, row) for one, row, _ in new], recipe.assess, desk)
    better = {people.chain_id(row): row for row in judged if row["right"]}
    done = [_mended(row, better.get(people.chain_id(row))) for row in rows]
    return {"selected": pa.Table.from_pylist(done, schema=MENDED), **costs.table(desk.counts)}


def _rewritten(row: Row, text: str) -> Row:
    steps = [Step(text[a:b].strip()) for a, b in split(text)]
    return row | {"text": text, "steps": steps_text(steps), "answer": (final_answer(text) or ""), "finish": "stop"}


def _mended(row: Row, new: Row | None) -> Row:
    """A repair that loses the right answer is none: the chain stays as it was."""
    before = [step.text for step in steps_of(row["steps"])]
    if new is None:
        return row | {"original": before, "mended": False}
    return new | {"tier": row["tier"], "original": before, "mended": True}


def scored(
    units: pa.Table, *, recipe: Factory, desk: Desk, questions: Path, kept: Path, pass_rates: Mapping[str, float]
) -> Tables:
    desk = replace(desk, counts=Counts())
    known, rows = _part(units, questions, kept)
    asked = list(dict.fromkeys(row["question"] for row in rows))
    blind = score.blind([known[name] for name in asked], recipe.score, recipe.generate, desk)
    pairs = [(known[row["question"]], row) for row in rows]
    found = score.scores(pairs, dict(pass_rates), blind, recipe.score, desk)
    about = [
        {
            **asdict(one), "chain": people.chain_id(row), "question": row["question"],
            "pass_rate": pass_rates[row["question"]], "blind_rate": blind.get(row["question"]),
        }
        for row, one in zip(rows, found, strict=True)
    ]  # fmt: skip
    return {"scores": pa.Table.from_pylist(about, schema=SCORED), **costs.table(desk.counts)}


def _part(units: pa.Table, questions: Path, rows: Path) -> tuple[dict[str, Question], list[Row]]:
    """The questions of a part by id, and its rows."""
    name = units["part"][0].as_py()
    known = {one.id: one for one in from_table(pq.read_table(questions / name))}
    found: list[Row] = pq.read_table(rows / name).to_pylist()
    return known, found


def split_questions(tables: Iterable[pa.Table]) -> pa.Table:
    """All questions in one table, those about one picture beside each other, none twice."""
    whole = pa.concat_tables([QUESTIONS.empty_table(), *tables])
    rows = {row["id"]: row for row in whole.to_pylist()}
    ordered: Sequence[Row] = sorted(rows.values(), key=lambda row: (row["domain"], row["shown"], row["id"]))
    return pa.Table.from_pylist(list(ordered), schema=QUESTIONS)
