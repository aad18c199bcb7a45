"""A run of the factory from questions to repeats: five steps, each content-addressed, with its own funnel.

collect, enhance · generate · assess, calibrate · repair, review · score, release, repeats
"""

import functools
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from cot_factory import assessing, chosen, collect, costs, enhance, generate, people, released, repair, schedule, score
from cot_factory.asking import Desk, settings_of
from cot_factory.assessing import needs_people
from cot_factory.prompting import prompt
from cot_factory.question import MENDED, Row, from_table, ordered
from cot_factory.recipe import Factory
from data_engine import ingest, tables
from data_engine.finish import publish
from data_engine.media import add_files, store_of, write_atomic
from data_engine.runners import partition
from data_engine.runners.needs import MEDIA, Needs, checkpoint, together
from data_engine.runners.partition import RunnerName
from data_engine.sources.common import inside
from data_engine.step import Counts, Run, StepResult
from strict_yaml import RecipeError

CACHE = Path("cache", "answers")


@dataclass(frozen=True, slots=True)
class Factoring:
    """One run: the recipe, where it writes, on which runner, and whom to tell."""

    recipe: Factory
    run: Run
    runner: RunnerName = "local"
    progress: Callable[[str, int, int], None] = lambda name, done, total: None

    @property
    def store(self) -> Path:
        return store_of(self.run.out)

    def desk(self, needs: Needs, parts: int) -> Desk:
        processes = min(max(parts, 1), partition.width(self.runner, needs))
        return Desk(self.recipe.teachers, self.run.out / CACHE, self.store, self.recipe.budget, processes)

    def needs(self, names: Sequence[str]) -> Needs:
        """What a worker takes that asks these teachers (none named: all)."""
        asked = [one for one in self.recipe.teachers if one.folder and (not names or one.name in names)]
        return together([MEDIA, *(checkpoint(one.folder) for one in asked)])

    def over(self, name: str, work: partition.Work, parts: Sequence[Path], folder: Path, needs: Needs = MEDIA) -> None:
        """Runs `work` over parts of a table."""
        told = functools.partial(self.progress, name)
        partition.run(self.runner, work, parts, folder, told, needs)

    def over_names(
        self, name: str, work: partition.Work, parts: Sequence[Path], folder: Path, needs: Needs = MEDIA
    ) -> None:
        """Runs `work` once for the name of each part, by which it finds that part of several tables."""
        units = pa.table({"part": pa.array([part.name for part in parts], pa.string())})
        self.over(name, work, tables.write_partitions(units, folder / "_in", 1), folder, needs)

    def teachers(self, names: Sequence[str]) -> list[Any]:
        asked = [one for one in self.recipe.teachers if not names or one.name in names]
        return settings_of(asked)


def factor(
    recipe: Factory,
    out: Path,
    *,
    runner: RunnerName = "local",
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
    announce: Callable[[StepResult], None] = lambda result: None,
) -> dict[str, Any]:
    """Runs the whole recipe and returns its summary. Raises RecipeError, TeacherError, BudgetError: one clear line."""
    for teacher in recipe.teachers:
        teacher.require()
    prompt(recipe.generate.prompt)
    this = Factoring(recipe, Run(out, announce), runner, progress)
    questions = _enhance(this, _collect(this))
    assessed = _assess(this, questions, _generate(this, questions))
    mended = _repair(this, questions, _calibrate(this, assessed))
    kept = _review(this, questions, assessed, mended)
    scored = _score(this, questions, assessed, kept)
    release = _release(this, questions, kept, scored)
    repeats = _repeats(this, scored, release)
    publish(release.folder, out / "release")
    publish(repeats.table("repeats.parquet"), out / "repeats.parquet")
    this.run.finish()
    summary = summarise(this)
    write_atomic(out / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False).encode())
    return summary


def _collect(this: Factoring) -> StepResult:
    recipe = this.recipe

    def build(folder: Path) -> Counts:
        units = pa.table({"entry": pa.array(range(len(recipe.questions)), pa.int32())})
        work = functools.partial(collect.collected, recipe=recipe, store=this.store)
        this.over("collect", work, tables.write_partitions(units, folder / "_in", 1), folder)
        counts = {name: tables.count(folder / name) for name in ("questions", "quarantine")}
        if not counts["questions"]:
            raise RecipeError(f"questions: none could be used; see {folder / 'quarantine'}")
        return {**counts, "samples_kept": counts["questions"]}

    return this.run.step(
        "collect",
        config=[entry.model_dump(mode="json") for entry in recipe.questions],
        inputs=[_fingerprint(recipe, this.run.out)],
        code=["cot_factory.collect"],
        build=build,
    )


def _fingerprint(recipe: Factory, out: Path) -> str:
    """A hash of all files that questions are read from: not of what the run itself writes beside them."""
    root, own, digest = Path(recipe.root), out.resolve(), xxhash.xxh3_128()
    for entry in recipe.questions:
        if entry.source:
            digest.update(ingest.fingerprint_of([entry.source], root).encode())
        else:
            base = inside(root, str(entry.file)).parent
            add_files(
                digest,
                base,
                sorted(file for file in base.rglob("*") if file.is_file() and not file.is_relative_to(own)),
            )
    return digest.hexdigest()


def _enhance(this: Factoring, found: StepResult) -> StepResult:
    """The questions in partitions, in whose order all later steps keep them."""
    spec = this.recipe.enhance
    asks = spec.rewrite > 0 or spec.merge > 0

    def build(folder: Path) -> Counts:
        parts = [tables.read(found.table("questions"))] if tables.parts(found.table("questions")) else []
        whole = tables.write_partitions(ordered(parts), folder / "_in", this.recipe.partition)
        needs = this.needs(spec.teachers) if asks else MEDIA
        work = functools.partial(enhance.enhanced, recipe=this.recipe, desk=this.desk(needs, len(whole)))
        this.over("enhance", work, whole, folder, needs)
        how = Counter(row["how"] for row in tables.rows(folder / "questions", ["how"]))
        kept = tables.count(folder / "questions")
        return {
            "questions": kept, "rewritten": how["rewritten"], "merged": how["merged"],
            "refused": tables.count(folder / "refused"), "samples_kept": kept,
        }  # fmt: skip

    asked = [this.teachers(spec.teachers), *(prompt(name).identity for name in ("rewrite", "merge"))] if asks else []
    solving = [this.recipe.generate.model_dump(mode="json")] if asks else []
    return this.run.step(
        "enhance",
        config=[spec.model_dump(mode="json"), this.recipe.partition, asked, solving],
        inputs=[found],
        code=["cot_factory.enhance"],
        build=build,
    )


def _generate(this: Factoring, questions: StepResult) -> StepResult:
    spec = this.recipe.generate

    def build(folder: Path) -> Counts:
        parts, needs = tables.parts(questions.table("questions")), this.needs(spec.teachers)
        work = functools.partial(generate.generated, recipe=this.recipe, desk=this.desk(needs, len(parts)))
        this.over("generate", work, parts, folder, needs)
        counts = {name: tables.count(folder / name) for name in ("chains", "refused")}
        if not counts["chains"]:
            raise RecipeError(f"generate: no teacher answered anything; see {folder / 'refused'}")
        return {**counts, "samples_kept": counts["chains"]}

    return this.run.step(
        "generate",
        config=[spec.model_dump(mode="json"), this.teachers(spec.teachers), prompt(spec.prompt).identity],
        inputs=[questions],
        code=["cot_factory.generate"],
        build=build,
    )


def _assess(this: Factoring, questions: StepResult, chains: StepResult) -> StepResult:
    spec = this.recipe.assess

    def build(folder: Path) -> Counts:
        parts, needs = tables.parts(chains.table("chains")), this.needs(spec.judges) if spec.judges else MEDIA
        work = functools.partial(
            assessing.assessed_part, recipe=this.recipe, desk=this.desk(needs, len(parts)),
            questions=questions.table("questions"), chains=chains.table("chains"),
        )  # fmt: skip
        this.over_names("assess", work, parts, folder, needs)
        tiers = Counter(row["tier"] for row in tables.rows(folder / "assessed", ["tier"]))
        kept = tiers["A"] + tiers["B"]
        return {"samples_in": sum(tiers.values()), **{tier: tiers[tier] for tier in "ABC"}, "samples_kept": kept}

    judges = [this.teachers(spec.judges), prompt("judge_step").identity] if spec.judges else []
    return this.run.step(
        "assess",
        config=[spec.model_dump(mode="json"), judges],
        inputs=[questions, chains],
        code=["cot_factory.assessing"],
        build=build,
    )


def _calibrate(this: Factoring, assessed: StepResult) -> StepResult:
    """The probability of every chain by the calibration, and which are chosen."""
    recipe = this.recipe

    return this.run.step(
        "calibrate",
        config=[recipe.calibrate.model_dump(), recipe.select.model_dump()],
        inputs=[assessed],
        code=["cot_factory.chosen"],
        build=lambda folder: chosen.choose(assessed.table("assessed"), recipe, folder),
    )


def _repair(this: Factoring, questions: StepResult, picked: StepResult) -> StepResult:
    spec = this.recipe.review

    def build(folder: Path) -> Counts:
        names = [*spec.repair, *this.recipe.assess.judges]
        parts, needs = tables.parts(picked.table("selected")), this.needs(names) if spec.repair else MEDIA
        work = functools.partial(
            repair.mended, recipe=this.recipe, desk=this.desk(needs, len(parts)),
            questions=questions.table("questions"), selected=picked.table("selected"),
        )  # fmt: skip
        this.over_names("repair", work, parts, folder, needs)
        mended = sum(row["mended"] for row in tables.rows(folder / "selected", ["mended"]))
        return {"mended": mended, "samples_kept": tables.count(folder / "selected")}

    asked = [this.teachers(spec.repair), prompt("repair").identity] if spec.repair else []
    return this.run.step(
        "repair",
        config=[list(spec.repair), asked, this.recipe.assess.model_dump(mode="json")],
        inputs=[questions, picked],
        code=["cot_factory.repair"],
        build=build,
    )


def _review(this: Factoring, questions: StepResult, assessed: StepResult, mended: StepResult) -> StepResult:
    """Tasks into the queue, and the chains that may go on: those that need nobody, and those that people passed."""
    spec, folder_out = this.recipe.review, this.run.out / "review"
    decisions = people.settled(people.read_decisions(folder_out / "decisions.jsonl"))

    def build(folder: Path) -> Counts:
        known = {one.id: one for one in from_table(tables.read(questions.table("questions")))}
        fates, tasks = Counter[str](), []
        for part in tables.parts(mended.table("selected")):
            kept = []
            for row in pq.read_table(part).to_pylist():
                if not needs_people(row, this.recipe.assess):
                    kept.append(row)
                    continue
                reason = row["reason"] or f"redundancy {row['redundancy']:.2f}"
                tasks.append(people.task_of(known[row["question"]], row, reason, row["original"]))
                left, fate = people.applied(row, decisions.get(people.task_id(row)))
                fates[fate] += 1
                if fate in {"accepted", "fixed"} or (fate == "waiting" and spec.unreviewed == "release"):
                    kept.append(left)
            tables.write(pa.Table.from_pylist(kept, schema=MENDED), folder / "kept" / part.name)
        controls = people.gold(_controls(known, assessed, this), spec.gold, len(tasks))
        people.write_tasks(sorted([*tasks, *controls], key=lambda task: task.id), folder / "tasks.jsonl")
        told = {fate: fates[fate] for fate in ("accepted", "fixed", "rejected", "waiting")}
        stale = len(decisions.keys() - {task.id for task in (*tasks, *controls)})
        told |= {"stale": stale}  # decisions on chains that are no longer there
        return {"tasks": len(tasks), "gold": len(controls), **told, "samples_kept": tables.count(folder / "kept")}

    result = this.run.step(
        "review",
        config=[spec.model_dump(mode="json"), this.recipe.assess.model_dump(mode="json"), _plain(decisions)],
        inputs=[questions, assessed, mended],
        code=["cot_factory.people"],
        build=build,
    )
    publish(result.table("tasks.jsonl"), folder_out / "tasks.jsonl")
    return result


def _plain(decisions: Mapping[str, Any]) -> list[Any]:
    return [asdict(one) for _, one in sorted(decisions.items())]


def _controls(known: Mapping[str, Any], assessed: StepResult, this: Factoring) -> list[tuple[Any, Row]]:
    """The chains that no one need look at."""
    rows = [row for row in tables.rows(assessed.table("assessed")) if not needs_people(row, this.recipe.assess)]
    return [(known[row["question"]], row | {"probability": row["agreement"]}) for row in rows]


def _score(this: Factoring, questions: StepResult, assessed: StepResult, kept: StepResult) -> StepResult:
    spec = this.recipe.score

    def build(folder: Path) -> Counts:
        rates = score.pass_rates(tables.rows(assessed.table("assessed"), ["question", "right"]))
        asks = bool(spec.judges) or spec.blind_paths > 0
        names = [*spec.judges, *(this.recipe.generate.teachers if spec.blind_paths else ())]
        parts, needs = tables.parts(kept.table("kept")), this.needs(names) if asks else MEDIA
        work = functools.partial(
            score.scored, recipe=this.recipe, desk=this.desk(needs, len(parts)),
            questions=questions.table("questions"), kept=kept.table("kept"), pass_rates=rates,
        )  # fmt: skip
        this.over_names("score", work, parts, folder, needs)
        scores = Counter(row["score"] for row in tables.rows(folder / "scores", ["score"]))
        return {**{f"score_{score}": scores[score] for score in range(1, 6)}, "samples_kept": sum(scores.values())}

    return this.run.step(
        "score",
        config=[
            spec.model_dump(include={"judges", "blind_paths"}), this.teachers(spec.judges) if spec.judges else [],
            [this.recipe.generate.model_dump(mode="json")] if spec.blind_paths else [], prompt("score").identity,
        ],
        inputs=[questions, assessed, kept],
        code=["cot_factory.score"],
        build=build,
    )  # fmt: skip


def _release(this: Factoring, questions: StepResult, kept: StepResult, scored: StepResult) -> StepResult:
    def build(folder: Path) -> Counts:
        return released.write(
            this.recipe.corpus, questions.table("questions"), kept.table("kept"), scored.table("scores"), folder
        )

    return this.run.step(
        "release",
        config=[this.recipe.corpus],
        inputs=[questions, kept, scored],
        code=["cot_factory.released"],
        build=build,
    )


def _repeats(this: Factoring, scored: StepResult, release: StepResult) -> StepResult:
    spec = this.recipe.score
    files = [Path(this.recipe.root, name).expanduser() for name in spec.feedback]

    def build(folder: Path) -> Counts:
        rounds = [schedule.read_feedback(file) for file in files]
        scores = {row["chain"]: row["score"] for row in tables.rows(scored.table("scores"), ["chain", "score"])}
        rows = tables.rows(release.table("chains"))
        ids, values = [row["id"] for row in rows], np.array([scores[row["chain"]] for row in rows], np.int64)
        found = schedule.repeats(ids, values, spec.repeats, rounds, decay=spec.decay, cap=spec.cap, seed=spec.seed)
        tables.write(pa.table({"id": pa.array(ids, pa.string()), "repeats": found}), folder / "repeats.parquet")
        return {"rounds": len(rounds), "samples_kept": len(ids), "repeats": int(found.sum())}

    told = [xxhash.xxh3_128_hexdigest(file.read_bytes()) if file.is_file() else "missing" for file in files]
    config = spec.model_dump(include={"repeats", "decay", "cap", "seed"})
    return this.run.step(
        "repeats", config=[config, told], inputs=[scored, release], code=["cot_factory.schedule"], build=build
    )


def summarise(this: Factoring) -> dict[str, Any]:
    """summary.json: the counts of every step, what the calibration is worth, and what it all cost."""
    done = this.run.done
    calibration = json.loads((done["calibrate"].folder / "calibration.json").read_bytes())
    kept = done["release"].record["counts"]["samples_kept"]
    decisions = people.read_decisions(this.run.out / "review" / "decisions.jsonl")
    shown = ("chains", "right", "reliability", "raw", "gain")
    return {
        "steps": {name: step.record["counts"] for name, step in done.items()},
        "seconds": {name: step.record["seconds"] for name, step in done.items()},
        "calibration": {name: calibration[name] for name in shown if name in calibration},
        "costs": costs.ledger({name: step.folder for name, step in done.items()}, decisions, kept),
    }
