"""A curation run from recipe to shards, one content-addressed step after the other.

Spark does ingest, dedup and the mixing plan; Ray does media: probing, OCR, counting frames, shards.
`--runner` sends every partition to one runner instead; the outputs are the same bytes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data_engine import gates, ingest, judge, making, mix, presence, rewrites, shards
from data_engine.chain import Chain, chain_of, run_corpus
from data_engine.curation import Curation, Progress
from data_engine.finish import (
    corpora_counts,
    count_tokens,
    mix_config,
    plan_mix,
    run_gate,
    tokenizer_folder,
    write_shards,
)
from data_engine.media import keep_in, write_atomic
from data_engine.passes import PASSES
from data_engine.recipe import Corpus, Recipe
from data_engine.release import publish_queues, release
from data_engine.rights import Rights, refusal
from data_engine.runners.partition import RunnerName
from data_engine.step import Run, StepResult
from data_engine.teachers.recipe import Pool
from strict_yaml import RecipeError, nearest


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to: its summary, and the expectations that stopped it (none: it passed)."""

    summary: dict[str, Any]
    failed: list[str]


def check(recipe: Recipe) -> None:
    """Refuses unknown formats, rewrites, operators, dedup passes and fields. Raises RecipeError naming the nearest."""
    passes = {name: model for name, (model, _) in PASSES.items()}
    known: dict[str, Mapping[str, Any]] = {"rewrites": rewrites.REWRITES, "operators": judge.OPERATORS, "dedup": passes}
    for corpus in recipe.corpora:
        where = f"corpora.{corpus.corpus}"
        for source in corpus.sources:
            nearest(f"{where}.sources.format", source.format, ingest.FORMATS)
        for field, models in known.items():
            for spec in getattr(corpus, field):
                for name, values in spec.items():
                    nearest(f"{where}.{field}", name, list(models))
                    for key in values:
                        nearest(f"{where}.{field}.{name}", key, list(models[name].model_fields))
                    _valid(f"{where}.{field}.{name}", models[name], values)
        _check_makers(where, corpus, recipe)
        _check_operators(where, judge.build(corpus.operators))
        if any("balance" in spec for spec in corpus.dedup) and not any("task_type" in s for s in corpus.operators):
            raise RecipeError(f"{where}.dedup.balance: it goes by task type; add the operator `task_type: {{}}`")
    gates.check(recipe.gates, [corpus.corpus for corpus in recipe.corpora])


def _check_makers(where: str, corpus: Corpus, recipe: Recipe) -> None:
    if not all(corpus.make):
        raise RecipeError(f"{where}.make.{corpus.make.index({})}: no maker; nothing would be left of the corpus")
    for name, values in (item for stage in corpus.make for item in stage.items()):
        nearest(f"{where}.make", name, list(making.MAKERS))
        model = making.maker(name)
        for key in values:
            nearest(f"{where}.make.{name}", key, list(model.model_fields))
        _valid(f"{where}.make.{name}", model, values)
        rule = model(**values)
        try:
            rule.require()
        except ValueError as error:
            raise RecipeError(f"{where}.make.{name}: {error}") from error
        if rule.watches > recipe.frames.fps:
            raise RecipeError(
                f"{where}.make.{name}.fps: more than the {recipe.frames.fps:g} frames a second of the recipe's `frames`"
            )
        if rule.consults is not None:
            _check_teachers(f"{where}.make.{name}", rule, recipe)


def _check_teachers(where: str, rule: making.Maker, recipe: Recipe) -> None:
    """Refuses a maker that would ask nobody, or somebody who cannot be asked."""
    names = [teacher.name for teacher in recipe.teachers]
    if not names:
        raise RecipeError(f"{where}: it asks teachers, and the recipe names none; add `teachers`")
    for name in rule.consults or ():
        nearest(f"{where}.teachers", name, names)
    pool = Pool(teachers=making.teachers_of(rule, recipe.teachers))
    pool.require()
    for teacher in pool.teachers if recipe.rights != Rights() else ():
        if reason := refusal(f"teacher:{teacher.name}", recipe.rights):
            raise RecipeError(f"{where}: {reason}: what it says would all be dropped")
    if recipe.budget:
        recipe.budget.require(pool)


def _check_operators(where: str, operators: judge.Operators) -> None:
    """Refuses what cannot be measured here, and what would write one column twice."""
    seen: dict[str, Any] = {}
    for name, settings in judge.measured_config(operators):
        if seen.setdefault(name, settings) != settings:
            raise RecipeError(
                f"{where}.operators.{name}: given twice with other measures ({seen[name]} and {settings}): both would "
                "write the same columns; keep one"
            )
    for name, operator in operators:
        try:
            operator.require()
        except ValueError as error:
            raise RecipeError(f"{where}.operators.{name}: {error}") from error


def _valid(where: str, model: type[Any], values: Mapping[str, Any]) -> None:
    try:
        model(**values)
    except ValidationError as error:
        raise RecipeError("; ".join(f"{where}: {_fault(found)}" for found in error.errors())) from error


def _fault(found: Any) -> str:
    field = ".".join(map(str, found["loc"]))
    said = found["msg"].removeprefix("Value error, ")
    return f"{field}: {said}" if field else said


def curate(
    recipe: Recipe,
    out: Path,
    *,
    runner: RunnerName | None = None,
    progress: Progress = lambda name, done, total: None,
    announce: Callable[[StepResult], None] = lambda result: None,
) -> Outcome:
    """Runs the whole recipe. Raises RecipeError for a recipe that cannot run; a failed gate is in the outcome."""
    check(recipe)
    presence.require(recipe)
    try:
        keep_in(out, recipe.media)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    this = Curation(recipe, Run(out, announce), runner, progress)
    kept = {corpus.corpus: run_corpus(this, corpus) for corpus in recipe.corpora}
    return _ended(this, (_to_shards if recipe.target == "shards" else _to_samples)(this, kept))


def shard(
    recipe: Recipe,
    out: Path,
    *,
    runner: RunnerName | None = None,
    progress: Progress = lambda name, done, total: None,
    announce: Callable[[StepResult], None] = lambda result: None,
) -> Outcome:
    """What is left of a run whose samples are mixed: its shards, as `curate` writes them.

    Raises RecipeError where there is no mix yet, or one of another recipe.
    """
    this = Curation(recipe, Run(out, announce), runner, progress)
    this.run.reopen()
    _require_mix(this)
    _from_mix(this, {corpus.corpus: chain_of(this, corpus) for corpus in recipe.corpora})
    return _ended(this, [])


def _require_mix(this: Curation) -> None:
    done, names = this.run.done, [f"dedup.{corpus.corpus}" for corpus in this.recipe.corpora]
    if "mix" not in done:
        raise RecipeError(f"{this.run.out}: its samples are not mixed yet; run `keyeforge data curate` to the end")
    same = json.dumps(done["mix"].record["config"], sort_keys=True) == json.dumps(
        mix_config(this.recipe), sort_keys=True, default=str
    )
    if not same or sorted(names) != sorted(name for name in done if name.startswith("dedup.")):
        raise RecipeError(
            f"{this.run.out}: its samples are mixed by another recipe (corpora, mixture, holdout or shards.samples "
            "differ); run `keyeforge data curate` with this one"
        )


def _ended(this: Curation, failed: list[str]) -> Outcome:
    this.run.finish()
    summary = summarise(this, failed)
    write_atomic(this.run.out / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False).encode())
    return Outcome(summary, failed)


def _to_shards(this: Curation, kept: Mapping[str, Chain]) -> list[str]:
    tokenizer = tokenizer_folder(this, list(kept.values()))
    counted = {name: count_tokens(this, name, found, tokenizer) for name, found in kept.items()}
    failed = gates.failed(run_gate(this, kept, counted).folder)
    if not failed:
        plan_mix(this, kept, counted)
        _from_mix(this, kept)
    return failed


def _from_mix(this: Curation, kept: Mapping[str, Chain]) -> None:
    write_shards(this)
    publish_queues(this, kept)


def _to_samples(this: Curation, kept: Mapping[str, Chain]) -> list[str]:
    failed = gates.failed(run_gate(this, kept, {}).folder)
    if not failed:
        release(this, kept)
        publish_queues(this, kept)
    return failed


def summarise(this: Curation, failed: Sequence[str]) -> dict[str, Any]:
    """The curation's part of summary.json."""
    done = this.run.done
    report: dict[str, Any] = {
        "corpora": corpora_counts(this),
        "against": _earlier(this.recipe),
        "gate": gates.summary(done["gate"].folder),
        "seconds": {name: result.record["seconds"] for name, result in done.items()},
    }
    if not failed and "mix" in done:
        report["mix"] = mix.summary(done["mix"].folder)
        report["shards"] = shards.summary(done["shards"].table("shards"))
    return report


def _earlier(recipe: Recipe) -> list[str]:
    """The folders of the earlier runs that some corpus is held against."""
    named = dict.fromkeys(release for corpus in recipe.corpora for release in corpus.against)
    return [str(Path(recipe.root, release).resolve()) for release in named]
