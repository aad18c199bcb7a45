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
import io
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Media, Message, Part, Sample
from strict_yaml import RecipeError, explain

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
RECORD_SUFFIXES = frozenset({".jsonl", ".json", ".parquet", ".tsv", ".csv", ".tar", ".gz", ".txt", ".html"})
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)
MAX_RECORD = 50_000_000
"""Bytes of the longest record that is parsed."""
BOMB_BYTES, BOMB_RATIO = 256_000_000, 200
"""A gzip that gives more than this, and this many times its own size, is a bomb; text packs 3 to 20 times."""
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v"})

_NOT_UTF8 = re.compile(r"\\x[0-9a-f]{2}")

Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record set aside: where it is (`file:line`, `file@byte` or `file#part`), which field is wrong, and why."""

    corpus: str
    locator: str
    field: str
    reason: str


Reader = Callable[[Path, str, str, Source, MediaStore], Iterator[Sample | Quarantined]]
"""`read` of a format's module."""


class RecordError(ValueError):
    """A fault of one record: which field, and why. Readers turn it into `Quarantined`."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field

    def at(self, corpus: str, locator: str) -> Quarantined:
        return Quarantined(corpus, locator, self.field, str(self))


def inside(root: Path, relative: str) -> Path:
    """`root/relative`, refusing to leave `root` (absolute paths, `..`, links that climb out).

    Raises ValueError with the offending path, also for a circle of links or a NUL byte.
    """
    if "\0" in relative:
        raise ValueError(f"path holds a NUL byte: {relative!r}")
    try:
        path = (root / relative).resolve()
    except (RuntimeError, OSError) as error:
        raise ValueError(f"path runs in a circle of links: {relative!r}") from error
    if not path.is_relative_to(root.resolve()):
        raise ValueError(f"path leaves the corpus folder: {relative!r}")
    return path


def path_of(root: Path, name: str) -> Path:
    """A file of the corpus by its name in a unit.

    Raises RecordError for a link that leads out of the corpus, and for a name that is not UTF-8 (see `files`).
    """
    try:
        inside(folder_of(root), name)
    except ValueError as error:
        raise RecordError("file", str(error)) from error
    path = folder_of(root) / name
    if _NOT_UTF8.search(name) and not path.exists():
        raise RecordError("file", "its name is not UTF-8; rename it")
    return path


def quarantining(read: Reader) -> Reader:
    """A reader whose unit is quarantined as a whole where it raises RecordError, or its file cannot be read."""

    @wraps(read)
    def guarded(
        root: Path, unit: str, corpus: str, source: Source, store: MediaStore
    ) -> Iterator[Sample | Quarantined]:
        try:
            yield from read(root, unit, corpus, source, store)
        except RecordError as error:
            yield error.at(corpus, unit)
        except OSError as error:
            yield Quarantined(corpus, unit, "file", f"cannot be read, or not further: {error}")

    return guarded


def folder_of(root: Path) -> Path:
    """The folder that a source's paths are relative to: `root`, or where it lies if it is one file."""
    return root if root.is_dir() else root.parent


def files(root: Path, suffixes: Collection[str]) -> list[str]:
    """Files below `root` with these suffixes (a `.gz` behind them is looked through), sorted, relative to it.

    A name that is not UTF-8 is given as it can be written, its other bytes as `\\xff`: reading it says so.
    Raises RecipeError if `root` is not there, or holds no such file.
    """
    if not root.exists():
        raise RecipeError(f"{root}: no such file or folder; correct the source's path or fetch the corpus")
    found = [root] if root.is_file() else [path for path in root.rglob("*") if path.is_file() or _leads_nowhere(path)]
    names = [_shown(path.relative_to(folder_of(root)).as_posix()) for path in found if _suffix(path) in suffixes]
    if not names:
        raise RecipeError(f"{root}: holds no file with a suffix of {', '.join(sorted(suffixes))}")
    return sorted(names)


def _shown(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _leads_nowhere(path: Path) -> bool:
    """A link to nothing or in a circle: listed, so that reading it says so."""
    return path.is_symlink() and not path.exists()


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
def open_binary(path: Path) -> Iterator[io.BufferedReader]:
    """A file's bytes, gunzipped if it is named `.gz`; damage raises OSError, EOFError or zlib.error.

    A gzip that grows beyond all measure (a decompression bomb) raises OSError while it is read.
    """
    if path.suffix.lower() == ".gz":
        with gzip.open(path, "rb") as packed:
            limit = max(BOMB_BYTES, BOMB_RATIO * path.stat().st_size)
            yield io.BufferedReader(_Bounded(packed, limit), 1 << 20)
    else:
        with path.open("rb") as stream:
            yield stream


class _Bounded(io.RawIOBase):
    """A stream that refuses to give more than `limit` bytes."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream, self._left, self._limit = stream, limit, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read1(len(buffer))  # what comes before a damage is given
        self._left -= len(data)
        if self._left < 0:
            raise OSError(f"decompression bomb: unpacks to more than {self._limit:,} bytes")
        buffer[: len(data)] = data
        return len(data)


def clean_text(text: Any, field: str) -> str:
    """`text` if it is text with words in it and without NUL. Raises RecordError."""
    if not isinstance(text, str):
        raise RecordError(field, "missing" if text is None else "must be text")
    if not text.strip():
        raise RecordError(field, "empty")
    if "\0" in text:
        raise RecordError(field, f"NUL byte at character {text.index(chr(0))}")
    return text


def put_image_file(relative: str, folder: Path, store: MediaStore) -> str:
    """The key of an image file named by a record. Raises RecordError (field `image`)."""
    try:
        path = inside(folder, relative)
        size = path.stat().st_size if path.is_file() else -1
    except (ValueError, OSError) as error:
        raise RecordError("image", str(error)) from error
    if size < 0:
        raise RecordError("image", f"no such file: {relative!r}")
    if path.suffix.lower() in RECORD_SUFFIXES:
        raise RecordError("image", f"cyclic or wrong reference: {relative!r} is a file of records, not an image")
    if size == 0:
        raise RecordError("image", f"empty file: {relative!r}")
    return store.put_file(path)


def put_image_bytes(data: bytes, store: MediaStore) -> str:
    """The key of image bytes, its suffix told by their first bytes. Raises RecordError (field `image`)."""
    return store.put_bytes(data, image_suffix(data))


def image_suffix(data: bytes) -> str:
    """`.png`, `.jpg`, ... by the first bytes. Raises RecordError (field `image`) for what is none of them."""
    if not data:
        raise RecordError("image", "empty")
    for start, suffix in _MAGIC:
        if data.startswith(start):
            return suffix
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    raise RecordError("image", f"not an image in any known format: begins with {data[:12]!r}")


def joined(*names: str) -> str:
    """Licences or attributions of several things as one: each once, in order."""
    return ", ".join(dict.fromkeys(filter(None, names)))


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
        source=source.path,
        origin=origin,
        group=group or (media[0].key if media else origin),
    )
