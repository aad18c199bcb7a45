"""Recipes: what a curation run does, as one YAML file and nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from data_engine.rights import Rights, refusal
from data_engine.sample import MODALITIES, Modality
from data_engine.teachers.recipe import Budget, Teacher
from strict_yaml import Strict, parse_yaml

ADDRESS = r"^[a-z][a-z0-9+]+://.+"


class Source(Strict):
    """Where records come from. `path` is relative to the recipe's `root`; `options` are the reader's own."""

    format: str
    path: str
    modality: Modality
    task: str
    licence: str
    attribution: str = ""
    options: dict[str, Any] = Field(default_factory=dict)


class Holdout(Strict):
    """The share of samples kept from training; `by: group` keeps samples of one image or page together."""

    share: float = Field(default=0.05, ge=0, lt=1)
    by: Literal["group", "id"] = "group"


class Corpus(Strict):
    """One corpus: its sources, rewrites, what is made of them, operators, deduplication passes, its held-out share.

    `against`: folders of earlier runs whose kept samples count as seen already.
    """

    corpus: str
    sources: list[Source] = Field(min_length=1)
    rewrites: list[dict[str, dict[str, Any]]] = Field(default_factory=list)
    make: list[dict[str, dict[str, Any]]] = Field(default_factory=list)
    operators: list[dict[str, dict[str, Any]]] = Field(default_factory=list)
    dedup: list[dict[str, dict[str, Any]]] = Field(default_factory=list)
    against: list[str] = Field(default_factory=list)
    holdout: Holdout = Holdout()


class Gate(Strict):
    """A bound on one metric, for every corpus that has it unless `corpus` is given.

    `measure`: a column of `metrics.PLAIN`; `measures.COLUMN.STATISTIC` of the kept samples (min, max, mean,
    null_share, or psi: the population stability index against the last release in `against`); or `drift_` before
    any of these: the relative change against that release.
    `action: stop` fails the run (exit code 1), `quarantine` sets the corpus aside: it is not mixed, `warn` says so.
    """

    measure: str
    corpus: str | None = None
    min: float | None = None
    max: float | None = None
    action: Literal["stop", "quarantine", "warn"] = "stop"

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError(f"gate on {self.measure!r} has no bound: give min, max or both")
        return self


def check_shares(shares: Mapping[Modality, float]) -> None:
    """Raises ValueError unless shares are at least 0 and sum to 1."""
    if abs(sum(shares.values()) - 1) > 1e-6 or any(share < 0 for share in shares.values()):
        raise ValueError(f"shares {dict(shares)} must not be negative, and sum to 1")


class Phase(Strict):
    """Shares of tokens per modality that hold for so many tokens."""

    tokens: int = Field(gt=0)
    shares: dict[Modality, float]

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        check_shares(self.shares)
        return self


class Mixture(Strict):
    """Token shares per modality, and how the epoch ends.

    `phases` come first in every epoch, one after the other; then `shares` hold. `weights`: of corpora within their
    modality (default: in proportion to their tokens, so that each lasts as long as the others).
    A pass over a corpus has each sample once, or as often as the table `repeats` (columns `id`, `repeats`; Parquet or
    JSONL) says. `when_out`, where a corpus has been passed over `max_repeats` times: `stop` ends the epoch where the
    first one would be lacking, `renormalise` leaves its share to the others of its modality (or that of its modality
    to the other modalities) until all is used up, `repeat` passes over it again and again until all have had a pass.
    `epoch_tokens` ends the epoch earlier (with `repeat`: there).
    """

    shares: dict[Modality, float] = Field(default={"video": 0.24, "image": 0.50, "text": 0.26})
    phases: list[Phase] = Field(default_factory=list)
    weights: dict[str, float] = Field(default_factory=dict)
    repeats: str | None = None
    when_out: Literal["stop", "renormalise", "repeat"] = "stop"
    epoch_tokens: int | None = Field(default=None, gt=0)
    max_repeats: int = Field(default=1, ge=1)
    seed: int = 0

    @property
    def modalities(self) -> list[Modality]:
        """Those that have a share at any time."""
        every = [*(phase.shares for phase in self.phases), self.shares]
        return [name for name in MODALITIES if any(shares.get(name, 0) > 0 for shares in every)]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        check_shares(self.shares)
        if any(weight <= 0 for weight in self.weights.values()):
            raise ValueError(
                f"mixture weights {self.weights} must be positive; leave a corpus out of `corpora` instead"
            )
        if self.when_out == "repeat" and self.max_repeats > 1:
            raise ValueError("mixture: `when_out: repeat` has no end of passes; drop max_repeats, or choose another")
        return self


class Frames(Strict):
    """How videos are sampled once for all presets: frames a second, and the longer side in pixels."""

    fps: float = Field(default=2.0, gt=0)
    max_side: int = Field(default=448, ge=28)


class Shards(Strict):
    """Shard size in samples and, where `bytes` is given, of the file at most (a sample that is larger has one to
    itself); the longest image side kept (null: the original bytes).

    `target`: an address that fsspec knows (`s3://bucket/prefix`), to which finished shards are sent as well.
    """

    samples: int = Field(default=1000, gt=0)
    bytes: int | None = Field(default=None, ge=4096)
    max_side: int | None = 448
    target: str | None = Field(default=None, pattern=ADDRESS)


class Recipe(Strict):
    """A whole curation run.

    `target`: mix the corpora and write shards, or stop at the curated samples (`DIR/release`). `media`: an object
    store that fsspec knows, for this run alone; without it media are kept in `DIR/media`. `teachers`: the models that
    makers may ask, and `budget` what they may spend, all runs into the folder together.
    """

    # Keys of `Corpus` that a recipe for one corpus may have at its top level.
    short_form: ClassVar[tuple[str, ...]] = tuple(Corpus.model_fields)

    root: str = "."
    corpora: list[Corpus] = Field(min_length=1)
    gates: list[Gate] = Field(default_factory=list)
    rights: Rights = Rights()
    media: str | None = Field(default=None, pattern=ADDRESS)
    teachers: tuple[Teacher, ...] = ()
    budget: Budget | None = None
    preset: str = "tiny"
    tokenizer: str | None = None
    mixture: Mixture = Mixture()
    frames: Frames = Frames()
    shards: Shards = Shards()
    target: Literal["shards", "samples"] = "shards"

    @model_validator(mode="before")
    @classmethod
    def _one_corpus(cls, data: Any) -> Any:
        """A recipe for one corpus may name its parts at the top level."""
        if isinstance(data, dict) and "corpus" in data and "corpora" not in data:
            keys = [key for key in Corpus.model_fields if key in data]
            rest = {key: value for key, value in data.items() if key not in keys}
            return {**rest, "corpora": [{key: data[key] for key in keys}]}
        return data

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [corpus.corpus for corpus in self.corpora]
        if len(set(names)) != len(names):
            raise ValueError(f"corpus names must differ: {names}")
        return self

    @model_validator(mode="after")
    def _sources_may_be_used(self) -> Self:
        """The policy is a gate: a recipe with a source it refuses does not begin."""
        for corpus in self.corpora:
            for number, source in enumerate(corpus.sources):
                if reason := refusal(source.licence, self.rights):
                    where = f"corpora.{corpus.corpus}.sources.{number}.licence"
                    raise ValueError(f"{where}: {reason}; drop the source or change `rights`")
        return self


def load_recipe(path: Path) -> Recipe:
    """Reads a recipe; `root` becomes absolute (relative to the recipe's folder, `~` expanded).

    Raises RecipeError with one line per fault: file, field, and the nearest right key for a wrong one.
    """
    recipe = parse_yaml(path, Recipe)
    root = Path(recipe.root).expanduser()
    root = root if root.is_absolute() else path.parent / root
    return recipe.model_copy(update={"root": str(root.resolve())})
