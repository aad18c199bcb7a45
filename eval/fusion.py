"""A sweep of merges: experts of several steps at several weights, each judged on the same questions."""

import dataclasses
import itertools
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Literal, Self

from pydantic import Field, model_validator

from data_engine.media import write_atomic
from eval.cache import AnswerCache
from eval.evaluate import Task, corpora_folder, instances
from eval.runner import ask_encoded, encode_all, load_answerer
from eval.tasks.instance import Instance, is_correct, question
from model.fusion.sweep import Candidate, Sweep, expert_grid, sweep
from model.processing import Encoded
from strict_yaml import Strict
from train.start import model_folder


class Expert(Strict):
    """One expert: its name, how many steps it was trained for, and where it lies (a stage's folder or a model's)."""

    label: str
    steps: int = Field(ge=0)
    source: str = Field(alias="from")


class Fusion(Strict):
    """A sweep's recipe: the base, the experts and the weights each is merged with, and what judges the merges.

    `tasks`: how many instances of each are asked, drawn once for all merges; null: all of them. Method and density
    are those of model.fusion.
    """

    base: str
    experts: list[Expert] = Field(min_length=1)
    weights: list[float] = Field(min_length=1)
    method: Literal["task_arithmetic", "dare_linear"] = "task_arithmetic"
    density: float | None = Field(default=None, gt=0, le=1)
    tasks: dict[Task, int | None] = Field(min_length=1)
    corpora: str | None = None
    batch_size: int = 64

    @model_validator(mode="after")
    def _density_is_for_dare(self) -> Self:
        if (self.method == "dare_linear") != (self.density is not None):
            raise ValueError("density: dare_linear needs it, the share of values to keep; task_arithmetic has none")
        return self


def fuse(recipe: Fusion, data: Path, on_progress: Callable[[int, int], None]) -> Sweep:
    """Merges and judges the base and every expert at every weight.

    Leaves DATA/fusion/: sweep.json, summary.json, and best/, the merge that was chosen, with its divergence.json.
    Raises StageError for a folder without a model, TaskError for a task whose files are missing, SweepError and
    WeightsError for merges that cannot be made.
    """
    started = time.perf_counter()
    tried = candidates(recipe, data)
    chosen = choose(recipe.tasks, corpora_folder(recipe.corpora))
    score = judging(chosen, AnswerCache(data / "eval/fusion/answers.jsonl"), recipe.batch_size)
    num_done = itertools.count(1)

    def evaluate(folder: Path) -> dict[str, float]:
        scores = score(folder)
        on_progress(next(num_done), len(tried))
        return scores

    hidden, out = data / ".fusion.incoming", data / "fusion"
    shutil.rmtree(hidden, ignore_errors=True)
    done = sweep(tried, evaluate, hidden)
    settings = recipe.model_dump(by_alias=True, include={"base", "experts", "method", "density", "tasks"})
    summary = {**settings, **dataclasses.asdict(done), "seconds": round(time.perf_counter() - started, 1)}
    write_atomic(hidden / "summary.json", json.dumps(summary, indent=1).encode())
    shutil.rmtree(out, ignore_errors=True)
    hidden.rename(out)
    return done


def candidates(recipe: Fusion, data: Path) -> list[Candidate]:
    """The base alone, then every expert at every weight. Raises StageError for a folder without a model."""
    base = model_folder(data / recipe.base)
    experts = [(expert.label, expert.steps, model_folder(data / expert.source)) for expert in recipe.experts]
    alone = expert_grid(base, experts[:1], [0.0], recipe.method, recipe.density)[0]
    grid = expert_grid(base, experts, recipe.weights, recipe.method, recipe.density)
    return [dataclasses.replace(alone, label="base", steps=None), *grid]


def choose(tasks: Mapping[Task, int | None], corpora: Path) -> list[Instance]:
    """The instances that judge: of each task as many as wanted, the same ones every time. Raises TaskError."""
    chosen = []
    for task, wanted in tasks.items():
        found = instances(task, corpora)
        num = len(found) if wanted is None else min(wanted, len(found))
        places = sorted(Random(f"fusion/{task}").sample(range(len(found)), num))
        chosen += [found[place] for place in places]
    return chosen


def judging(chosen: list[Instance], cache: AnswerCache, batch_size: int) -> Callable[[Path], dict[str, float]]:
    """What scores a model's folder: 1 or 0 for each instance, by id.

    Prompts are encoded once for all merges that share a vocabulary and a visual budget.
    """
    asked = [question(one.question, one.media) for one in chosen]
    encoded: dict[tuple[bytes, ...], list[Encoded]] = {}

    def judge(folder: Path) -> dict[str, float]:
        answerer = load_answerer(folder, batch_size)
        key = tuple((folder / name).read_bytes() for name in ("tokenizer.json", "processor_config.json"))
        if key not in encoded:
            encoded[key] = list(encode_all(answerer.processor, asked))
        said = ask_encoded(answerer, encoded[key], cache, lambda done, total: None)
        return {one.id: float(is_correct(words, one)) for one, words in zip(chosen, said, strict=True)}

    return judge
