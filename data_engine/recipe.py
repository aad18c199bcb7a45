"""Recipes: what a curation run does, as one YAML file and nothing else.

Every model refuses unknown keys and names the nearest right one.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data_engine.sample import Modality

Model = TypeVar("Model", bound=BaseModel)


class RecipeError(ValueError):
    """A recipe that cannot be run: the message names the file, the field and the fix."""


class Strict(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    """One corpus: its sources, its operators in order, its dedup passes and its held-out share."""

    corpus: str
    sources: list[Source] = Field(min_length=1)
    operators: list[dict[str, dict[str, Any]]] = Field(default_factory=list)
    dedup: list[dict[str, dict[str, Any]]] = Field(default_factory=list)
    holdout: Holdout = Holdout()


class Gate(Strict):
    """A bound on one column of the metrics table, per corpus unless `corpus` is given.

    `action: stop` fails the run (exit code 1), `warn` only says so.
    """

    measure: str
    corpus: str | None = None
    min: float | None = None
    max: float | None = None
    action: Literal["stop", "warn"] = "stop"

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError(f"gate on {self.measure!r} has no bound: give min, max or both")
        return self


class Mixture(Strict):
    """Token shares per modality, and how the epoch ends.

    `epoch_tokens: null` makes the epoch as long as the scarcest modality allows, each sample at most
    `max_repeats` times.
    """

    shares: dict[Modality, float] = {"video": 0.24, "image": 0.50, "text": 0.26}
    epoch_tokens: int | None = Field(default=None, gt=0)
    max_repeats: int = Field(default=1, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        if abs(sum(self.shares.values()) - 1) > 1e-6 or any(share <= 0 for share in self.shares.values()):
            raise ValueError(f"mixture shares {self.shares} must be positive and sum to 1")
        return self


class Frames(Strict):
    """How videos are sampled once for all presets: frames a second, and the longer side in pixels."""

    fps: float = Field(default=2.0, gt=0)
    max_side: int = Field(default=448, ge=28)


class Shards(Strict):
    """Shard size in samples, and the longest image side kept (null: the original bytes)."""

    samples: int = Field(default=1000, gt=0)
    max_side: int | None = 448


class Recipe(Strict):
    """A whole curation run."""

    # Keys of `Corpus` that a recipe for one corpus may have at its top level.
    short_form: ClassVar[tuple[str, ...]] = tuple(Corpus.model_fields)

    root: str = "."
    corpora: list[Corpus] = Field(min_length=1)
    gates: list[Gate] = Field(default_factory=list)
    preset: str = "tiny"
    tokenizer: str | None = None
    mixture: Mixture = Mixture()
    frames: Frames = Frames()
    shards: Shards = Shards()

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


def load_recipe(path: Path) -> Recipe:
    """Reads a recipe; `root` becomes absolute (relative to the recipe's folder, `~` expanded).

    Raises RecipeError with one line per fault: file, field, and the nearest right key for a wrong one.
    """
    recipe = parse_yaml(path, Recipe)
    root = Path(recipe.root).expanduser()
    root = root if root.is_absolute() else path.parent / root
    return recipe.model_copy(update={"root": str(root.resolve())})


def parse_yaml(path: Path, model: type[Model]) -> Model:
    """A YAML file as `model`. Raises RecipeError naming the file, the field and the fix."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {str(error).replace(chr(10), ' ')}") from error
    try:
        return model.model_validate(data if data is not None else {})
    except ValidationError as error:
        raise RecipeError("\n".join(explain(path, model, fault) for fault in error.errors())) from error


def explain(path: Path, model: type[BaseModel], fault: Any) -> str:
    """One pydantic fault as one line: `file: field: what is wrong; did you mean ...?`."""
    location = tuple(fault["loc"])
    field = ".".join(str(part) for part in location) or "(top level)"
    if fault["type"] != "extra_forbidden":
        return f"{path}: {field}: {fault['msg']}"
    owner = _model_at(model, location[:-1])
    known = [*owner.model_fields, *getattr(owner, "short_form", ())]
    near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
    return f"{path}: {field}: unknown key; {hint}"


def nearest(where: str, name: str, known: Sequence[str]) -> None:
    """Raises RecipeError unless `name` is known, naming the nearest that is."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise RecipeError(f"{where}: unknown {name!r}; {hint}")


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """The model that holds the field at `location`."""
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = next(_models_in(model.model_fields[part].annotation), model)
    return model


def _models_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)
