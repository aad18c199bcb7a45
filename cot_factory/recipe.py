"""Recipes of the factory: what `keyeforge cot run` does, as one YAML file."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from data_engine.recipe import Source
from data_engine.repeats import MOST
from data_engine.teachers.recipe import Budget, Teacher
from strict_yaml import Strict, parse_yaml

Domain = Literal["mathematics", "stem", "ocr", "grounding", "counting", "gui", "business"]
Share = Annotated[float, Field(ge=0, le=1)]
SCORES = (1, 2, 3, 4, 5)


class Questions(Strict):
    """Questions of one domain, with what their answers are held against.

    `file`: JSON lines of the factory's own (`collect.FileQuestion`). `source`: any reader of the data engine, a
    curated run's `release` among them; the last answer of a sample is its reference, and `truth` says how it is held
    against (`data_engine.verify.truth.Truth` without its value). `limit`: so many, drawn by a hash of their ids.
    `facts: siblings`: what the source's other questions say of the same picture is known of it.
    """

    domain: Domain
    file: str | None = None
    source: Source | None = None
    truth: dict[str, Any] = Field(default_factory=lambda: {"kind": "exact"})
    limit: int | None = Field(None, ge=1)
    facts: Literal["siblings"] | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.file is None) == (self.source is None):
            raise ValueError("give either file (questions as JSON lines) or source (a reader of the data engine)")
        if self.facts and self.source is None:
            raise ValueError("facts: siblings are the other questions of a source; a file gives its own `facts`")
        return self


class Enhance(Strict):
    """Easy questions rewritten into ones of several steps, and questions about one picture merged into one.

    `rewrite`, `merge`: the share of the questions (of the pictures) tried. A rewrite is kept if its own answer and the
    most frequent one of `checks` answers of the teachers agree with the reference; what is not kept stays as it was.
    `easy_words`: a question of more words is not rewritten.
    """

    teachers: tuple[str, ...] = ()
    rewrite: Share = 0.0
    merge: Share = 0.0
    checks: int = Field(default=3, ge=1)
    easy_words: int = Field(default=30, ge=1)


class Generate(Strict):
    """`paths` for each question from each of `teachers` (none named: all). `show`: what stands for the picture: the
    picture itself, what is known of it in words (for a teacher that does not see), or both. `prompt`: one of
    `cot_factory/prompts`, or a Markdown file of one's own.
    """

    teachers: tuple[str, ...] = ()
    paths: int = Field(default=8, ge=1, le=64)
    temperature: float = Field(default=0.7, gt=0)
    max_tokens: int = Field(default=1024, ge=8)
    show: Literal["pictures", "facts", "both"] = "pictures"
    prompt: str = "solve"


class Calibrate(Strict):
    """`method`: isotonic regression or Platt's logistic; `folds`: how the report's curve is cross-fitted."""

    method: Literal["isotonic", "platt"] = "platt"
    folds: int = Field(default=5, ge=2)


class Assess(Strict):
    """`judges`: teachers that judge steps where rules cannot tell (none named: rules alone).

    `severe_steps`: from this share of flawed steps on, a process is badly flawed (tier C). `redundant`: from this
    redundancy on a chain is dropped; from `middling` on, people look at it.
    """

    judges: tuple[str, ...] = ()
    severe_steps: Share = 0.6
    middling: Share = 0.25
    redundant: Share = 0.6

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.middling > self.redundant:
            raise ValueError(f"middling {self.middling} must not be above redundant {self.redundant}")
        return self


class Select(Strict):
    """`keep` right paths of each question at most, the most confident first, none of them `max_similarity` (share of
    common word pairs) or more like one taken before.
    """

    keep: int = Field(default=2, ge=1)
    max_similarity: Share = 0.8


class Review(Strict):
    """`repair`: teachers that mend a flawed chain from its first flawed step on, before people see it. `gold`: the
    share of tasks whose decision is known beforehand, put among the others. `unreviewed`: what becomes of a chain that
    no one has decided on yet.
    """

    repair: tuple[str, ...] = ()
    gold: Share = 0.05
    unreviewed: Literal["wait", "release"] = "wait"


class Score(Strict):
    """`judges`: teachers that rate by the rubric (none named: the rules alone). `blind_paths`: answers tried without
    the picture; what is answered so in half of the tries scores 1. `repeats`: of each score. `feedback`: what training
    said of the samples, a table a round (`id`, `loss`, `pass_rate`); `decay` a round, `cap` at most.
    """

    judges: tuple[str, ...] = ()
    blind_paths: int = Field(default=0, ge=0, le=64)
    repeats: dict[int, Annotated[int, Field(ge=0, le=MOST)]] = Field(default={1: 0, 2: 1, 3: 1, 4: 2, 5: 3})
    feedback: tuple[str, ...] = ()
    decay: float = Field(default=0.8, gt=0, le=1)
    cap: int = Field(default=8, ge=1, le=MOST)
    seed: int = 0

    @model_validator(mode="after")
    def _every_score(self) -> Self:
        if sorted(self.repeats) != list(SCORES):
            raise ValueError(f"repeats: give one number for each score 1 to 5, not {sorted(self.repeats)}")
        return self


class Factory(Strict):
    """A whole run of the factory. `root`: relative paths start there; `corpus`: the name of what comes out."""

    corpus: str = Field("longcot", min_length=1)
    root: str = "."
    questions: tuple[Questions, ...] = Field(min_length=1)
    teachers: tuple[Teacher, ...] = Field(min_length=1)
    budget: Budget | None = None
    enhance: Enhance = Enhance()
    generate: Generate = Generate()
    calibrate: Calibrate = Calibrate()
    assess: Assess = Assess()
    select: Select = Select()
    review: Review = Review()
    score: Score = Score()
    partition: int = Field(default=64, ge=1)

    @model_validator(mode="after")
    def _known_teachers(self) -> Self:
        known = {teacher.name for teacher in self.teachers}
        asked = {
            "enhance.teachers": self.enhance.teachers,
            "generate.teachers": self.generate.teachers,
            "assess.judges": self.assess.judges,
            "review.repair": self.review.repair,
            "score.judges": self.score.judges,
        }
        for field, names in asked.items():
            if unknown := [name for name in names if name not in known]:
                raise ValueError(f"{field}: no teacher {unknown[0]!r}; known: {', '.join(sorted(known))}")
        return self


def load(path: Path) -> Factory:
    """The recipe in a file; its `root` becomes absolute. Raises RecipeError naming the file, the field and the fix."""
    recipe = parse_yaml(path, Factory)
    root = Path(recipe.root).expanduser()
    return recipe.model_copy(update={"root": str(root if root.is_absolute() else (path.parent / root).resolve())})
