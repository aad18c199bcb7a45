"""What readers of drawn corpora share: units that are ranges of pictures, and folders below the source's path."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from data_engine.sources.common import inside
from strict_yaml import RecipeError

UNIT_PICTURES = 50
Name = TypeVar("Name", bound=str)


def count_units(num: Mapping[Name, int], form: str) -> list[str]:
    """Ranges of at most fifty pictures, `sign#0-50`. Raises RecipeError for a negative number."""
    for name, count in num.items():
        if count < 0:
            raise RecipeError(f"options of format {form!r}: num.{name}: {count} must not be negative")
    spans = ((name, start, count) for name, count in num.items() for start in range(0, count, UNIT_PICTURES))
    return [f"{name}#{start}-{min(start + UNIT_PICTURES, count)}" for name, start, count in spans]


def indices(unit: str) -> tuple[str, range]:
    """The name and the numbers of a unit."""
    name, _, span = unit.partition("#")
    start, _, end = span.partition("-")
    return name, range(int(start), int(end))


def subfolder(root: Path, name: str) -> Path:
    """A folder below the source's path. Raises RecipeError for one outside of it."""
    try:
        return inside(root, name)
    except ValueError as error:
        raise RecipeError(f"{root}: {error}; name a folder below the source's path") from error
