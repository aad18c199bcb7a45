"""What would change if a threshold moved: decided anew from the stored measures, part by part; nothing is written."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from pydantic import ValidationError

from data_engine import catalog, judge, tables, tombstones
from data_engine.judge import Specs
from data_engine.recipe import Recipe
from strict_yaml import RecipeError, nearest

NUM_IDS = 5


@dataclass(frozen=True, slots=True)
class Setting:
    """`operators.OPERATOR.FIELD=value`, of one corpus or (None) of all that run the operator."""

    text: str
    corpus: str | None
    operator: str
    field: str
    value: Any


@dataclass(slots=True)
class Change:
    """Samples of one corpus that one reason would drop (`kept->dropped`) or no longer drop (`dropped->kept`)."""

    corpus: str
    change: str
    operator: str
    reason: str
    count: int = 0
    ids: list[str] = field(default_factory=list)


def parse(text: str) -> Setting:
    """One `--set`. Raises RecipeError for any other form."""
    path, equals, value = text.partition("=")
    match [part.strip() for part in path.split(".")]:
        case ["operators", operator, name] if equals:
            corpus = None
        case ["corpora", corpus, "operators", operator, name] if equals:
            pass
        case _:
            raise RecipeError(
                f"--set {text}: write operators.NAME.FIELD=VALUE or corpora.CORPUS.operators.NAME.FIELD=VALUE"
            )
    try:
        return Setting(text, corpus, operator, name, yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {text}: {value!r} is not a YAML value") from error


def check(recipe: Recipe, settings: Sequence[Setting]) -> None:
    """Refuses what the recipe has no place for, and what would have to be measured anew. Raises RecipeError."""
    for setting in settings:
        where = f"--set {setting.text}"
        if setting.corpus is not None:
            nearest(where, setting.corpus, [corpus.corpus for corpus in recipe.corpora])
        concerned = [corpus for corpus in recipe.corpora if setting.corpus in {None, corpus.corpus}]
        used = list(dict.fromkeys(name for corpus in concerned for spec in corpus.operators for name in spec))
        nearest(where, setting.operator, used)
        nearest(where, setting.operator, list(judge.OPERATORS))
        operator = judge.OPERATORS[setting.operator]
        nearest(where, setting.field, list(operator.model_fields))
        if setting.field in operator.measured_by:
            raise RecipeError(
                f"{where}: {setting.field!r} changes what {setting.operator} measures, so no stored measure can tell; "
                "change the recipe and run `keyeforge data curate`"
            )


def moved(corpus: str, specs: Specs, settings: Sequence[Setting]) -> Specs:
    """The corpus's operators with the settings put in."""
    mine = [setting for setting in settings if setting.corpus in {None, corpus}]
    return [
        {name: {**fields, **{s.field: s.value for s in mine if s.operator == name}} for name, fields in spec.items()}
        for spec in specs
    ]


def whatif(recipe: Recipe, data: Path, settings: Sequence[Setting]) -> tuple[list[dict[str, Any]], list[Change]]:
    """(per corpus how many the operators keep as it is and as it would be, the changes by corpus and reason).

    The operators alone are decided anew: what deduplication does with a sample is not. Raises RecipeError for
    settings that do not fit, CatalogError for a run that has no measures to decide from.
    """
    check(recipe, settings)
    totals, changes = [], []
    for corpus in recipe.corpora:
        name, specs = corpus.corpus, judge.specs_of(recipe, corpus)
        before, after = _operators(name, specs), _operators(name, moved(name, specs, settings))
        if before != after:
            folder = _measures(data, name, before)
            removed = tombstones.read([data, *(Path(recipe.root, release) for release in corpus.against)])
            sides = (judge.settled(before, folder), judge.settled(after, folder))
            total, found = _compare(name, tables.parts(folder), *sides, removed)
            totals.append(total)
            changes += found
    return totals, changes


def _operators(corpus: str, specs: Sequence[Mapping[str, Mapping[str, Any]]]) -> judge.Operators:
    for spec in specs:
        for name in spec:
            nearest(f"corpora.{corpus}.operators", name, list(judge.OPERATORS))
    try:
        return judge.build(specs)
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        raise RecipeError(f"corpora.{corpus}: {error.title}.{field}: {fault['msg']}") from error


def _measures(data: Path, corpus: str, operators: judge.Operators) -> Path:
    """The stored measures of a corpus. Raises CatalogError if they are not those that the recipe asks for."""
    steps = catalog.steps(data)
    step = steps.get(f"measure.{corpus}")
    if step is None:
        raise catalog.CatalogError(f"{data}: no measures of corpus {corpus!r}; run `keyeforge data curate` first")
    parts = tables.parts(step / "measures")
    known = set(pq.read_schema(parts[0]).names) if parts else set()
    stored = _stored(steps, corpus)
    for name, fields in json.loads(json.dumps(judge.measured_config(operators), default=str)):
        lacking = [column for column in judge.OPERATORS[name].looks_at if parts and column not in known]
        if lacking or [name, fields] not in stored:
            raise catalog.CatalogError(
                f"{data}: corpus {corpus!r} was measured without {name} as the recipe has it; "
                "run `keyeforge data curate` first"
            )
    return step / "measures"


def _stored(steps: Mapping[str, Path], corpus: str) -> list[Any]:
    """What was measured: operators and their measuring fields, of the steps `look` and `measure`."""
    found = [steps[f"{name}.{corpus}"] for name in ("look", "measure") if f"{name}.{corpus}" in steps]
    return [item for folder in found for item in catalog.record(folder)["config"]]


def _compare(
    corpus: str,
    parts: Sequence[Path],
    before: judge.Operators,
    after: judge.Operators,
    removed: Sequence[tombstones.Tombstone],
) -> tuple[dict[str, Any], list[Change]]:
    total: dict[str, Any] = {"corpus": corpus, "samples": 0, "kept_before": 0, "kept_after": 0}
    changes: dict[tuple[str, str, str], Change] = {}
    for part in parts:
        measures = pq.read_table(part)
        gone = tombstones.tombstoned(measures, removed) if removed else None
        now, then = (judge.decide(measures, operators, gone) for operators in (before, after))
        total["samples"] += len(now)
        for name, verdicts in (("kept_before", now), ("kept_after", then)):
            total[name] += pc.sum(pc.equal(verdicts["status"], "kept")).as_py() or 0
        for kind, sample_id, operator, reason in _changed(now, then):
            change = changes.setdefault((kind, operator, reason), Change(corpus, kind, operator, reason))
            change.count += 1
            change.ids += [sample_id] if len(change.ids) < NUM_IDS else []
    return total, sorted(changes.values(), key=lambda change: (change.change, -change.count, change.reason))


def _changed(now: pa.Table, then: pa.Table) -> Iterator[tuple[str, str, str, str]]:
    """(kind, id, operator, reason) of the rows that change sides; the reason is the one that drops them."""
    was, will = pc.equal(now["status"], "kept"), pc.equal(then["status"], "kept")
    sides = (("kept->dropped", then, pc.and_not(was, will)), ("dropped->kept", now, pc.and_not(will, was)))
    for kind, verdicts, rows in sides:
        for row in verdicts.filter(rows).select(["id", "operator", "reason"]).to_pylist():
            yield kind, row["id"], row["operator"], row["reason"]
