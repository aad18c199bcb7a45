"""What every reader shares: the result of a failed record, and paths that stay inside their folder.

A reader module has two functions:

- `units(root, options) -> list[str]`: a cheap, sorted listing of what can be read on its own (a file, a
  page, a range of lines); partitions of units are what the runners spread out. `root` is a folder or one
  file. Raises RecipeError for a wrong option or a path that is not there.
- `read(root, unit, corpus, source, store) -> Iterator[Sample | Quarantined]`: the unit's samples, their
  media put into the store. A record that cannot be read is yielded as `Quarantined`, never raised.
"""

import gzip
import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from data_engine.recipe import Source
from data_engine.sample import Media, Message, Part, Sample
from strict_yaml import RecipeError, explain

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v"})

Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record set aside: where it is (`file:line` or `file#part`), which field is wrong, and why."""

    corpus: str
    locator: str
    field: str
    reason: str


def inside(root: Path, relative: str) -> Path:
    """`root/relative`, refusing to leave `root` (absolute paths, `..`, links that climb out).

    Raises ValueError with the offending path.
    """
    path = (root / relative).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ValueError(f"path leaves the corpus folder: {relative!r}")
    return path


def folder_of(root: Path) -> Path:
    """The folder that a source's paths are relative to: `root`, or where it lies if it is one file."""
    return root if root.is_dir() else root.parent


def files(root: Path, suffixes: Collection[str]) -> list[str]:
    """Files below `root` with these suffixes (a `.gz` behind them is looked through), sorted, relative to it.

    Raises RecipeError if `root` is not there, or holds no such file.
    """
    if not root.exists():
        raise RecipeError(f"{root}: no such file or folder; correct the source's path or fetch the corpus")
    found = [root] if root.is_file() else [path for path in root.rglob("*") if path.is_file()]
    names = [path.relative_to(folder_of(root)).as_posix() for path in found if _suffix(path) in suffixes]
    if not names:
        raise RecipeError(f"{root}: holds no file with a suffix of {', '.join(sorted(suffixes))}")
    return sorted(names)


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def parse_options(model: type[Options], values: dict[str, Any], name: str) -> Options:
    """A source's options as the reader's own model. Raises RecipeError naming the nearest right key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        where = Path(f"options of format {name!r}")
        raise RecipeError("\n".join(explain(where, model, fault) for fault in error.errors())) from error


@contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes, gunzipped if it is named `.gz`; damage raises OSError, EOFError or zlib.error."""
    if path.suffix.lower() == ".gz":
        with gzip.open(path, "rb") as stream:
            yield cast(IO[bytes], stream)
    else:
        with path.open("rb") as stream:
            yield stream


def pick(choices: Sequence[str], *keys: object) -> str:
    """One of `choices`, always the same for the same keys."""
    digest = hashlib.sha256("\0".join(str(key) for key in keys).encode()).digest()
    return choices[int.from_bytes(digest[:8], "big") % len(choices)]


def image_part(index: int = 0) -> Part:
    """The image at `Sample.media[index]`."""
    return Part("image", media=(index,))


def make_sample(
    corpus: str,
    source: Source,
    messages: Sequence[Message],
    media: Sequence[Media] = (),
    *,
    origin: str,
    group: str = "",
) -> Sample:
    """A sample with its source's rights and task; `group` is its first medium unless said otherwise."""
    return Sample(
        corpus=corpus,
        modality=source.modality,
        task=source.task,
        messages=tuple(messages),
        media=tuple(media),
        licence=source.licence,
        attribution=source.attribution,
        origin=origin,
        group=group or (media[0].key if media else origin),
    )
