"""YAML files as typed, frozen values: an unknown key is refused and the nearest right one named."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class RecipeError(ValueError):
    """A recipe that cannot be run: the message names the file, the field and the fix."""


class Strict(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    field = ".".join(str(part) for part in location)
    if fault["type"] != "extra_forbidden":
        where = f"{path}: {field}" if field else str(path)
        return f"{where}: {fault['msg'].removeprefix('Value error, ')}"
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
