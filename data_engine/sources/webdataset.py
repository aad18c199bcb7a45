"""WebDataset tars (also gzipped): members that share a key, the name up to the first dot, make one record.

An image with `.txt` or `.caption` (or a `.json` with `caption`) is a captioned image; with a `.json` that holds
`conversations` or `messages`, a conversation about the images of the key, in the tar's order. Other members of a
key are ignored. As WebDataset asks for, members of one key stand side by side.
"""

import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any, Self

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Sample
from data_engine.sources import records
from data_engine.sources.captions import caption_messages
from data_engine.sources.common import (
    IMAGE_SUFFIXES,
    MAX_RECORD,
    Quarantined,
    RecordError,
    clean_text,
    files,
    open_binary,
    parse_options,
    path_of,
    put_image_bytes,
    quarantining,
)
from data_engine.sources.conversations import sample_of
from strict_yaml import Strict

TEXTS = (".txt", ".caption")
_CONTROL = re.compile(r"[\x00-\x1f]")


class WebdatasetOptions(Strict):
    """A tar has no options."""


@dataclass(slots=True)
class _Group:
    """The members of one key: their bytes by what follows the key's dot; `fault`: why there is no record."""

    key: str
    members: dict[str, bytes] = field(default_factory=dict)
    fault: RecordError | None = None


class _DamageError(OSError):
    """The tar ends, or goes wrong, before its end mark."""


class _Member(tarfile.TarInfo):
    """Makes tarfile say that a tar is cut short, where it would end quietly."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except _EndError:
            raise
        except _HeaderError as error:
            raise _DamageError(f"damaged or truncated at byte {tarfile.offset:,}: {error}") from error


_HeaderError: type[Exception] = getattr(tarfile, "HeaderError")  # noqa: B009 - not in tarfile's stubs
_EndError: type[Exception] = getattr(tarfile, "EOFHeaderError")  # noqa: B009


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """One unit per tar."""
    parse_options(WebdatasetOptions, options, "webdataset")
    return files(root, {".tar"})


@quarantining
def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """One sample per key; faults are told by `file.tar#member` or `file.tar#key`, what can be read is read."""
    path = path_of(root, unit)
    empty = True
    try:
        with open_binary(path) as stream:
            for found in _groups(stream):
                empty = False
                if isinstance(found, _Group):
                    where = f"{unit}#{found.key}"
                    try:
                        yield _sample(found, corpus, source, where, store)
                    except RecordError as error:
                        yield error.at(corpus, where)
                else:
                    name, fault = found
                    yield fault.at(corpus, f"{unit}#{_CONTROL.sub('?', name)}")
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        reason = "empty file" if path.stat().st_size == 0 else f"cannot be read further: {error}"
        yield Quarantined(corpus, unit, "file", reason)
        return
    if empty:
        yield Quarantined(corpus, unit, "file", "holds no file")


def _groups(stream: BufferedReader) -> Iterator[_Group | tuple[str, RecordError]]:
    """Groups in the tar's order, and members that belong to none: (name, what is wrong)."""
    done: set[str] = set()
    group: _Group | None = None
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:
            for member in tar:
                if member.isdir():
                    continue
                if fault := _refused(member):
                    yield member.name, fault
                    continue
                key, ending = _split(member.name)
                if key in done:
                    yield member.name, RecordError("key", f"the members of {key!r} do not stand side by side")
                    continue
                if group is None or group.key != key:
                    if group is not None:
                        done.add(group.key)
                        yield group
                    group = _Group(key)
                _take(tar, member, ending, group)
    except _DamageError:
        if group is not None:
            yield group
        raise
    if group is not None:
        yield group


def _refused(member: tarfile.TarInfo) -> RecordError | None:
    parts = PurePosixPath(member.name).parts
    if ".." in parts or member.name.startswith("/"):
        return RecordError("member", "its path climbs out of the tar")
    if not member.isreg():
        kind = "a link" if member.issym() or member.islnk() else "a device or pipe"
        return RecordError("member", f"{kind}, not a file")
    if not parts or parts[-1].startswith("."):
        return RecordError("member", "its name has no key before the dot")
    if any("\udc80" <= char <= "\udcff" for char in member.name):
        return RecordError("member", "its name is not UTF-8")
    return None


def _split(name: str) -> tuple[str, str]:
    """`dir/7.left.jpg` is key `dir/7`, ending `.left.jpg`."""
    folder, slash, base = name.rpartition("/")
    stem, dot, ending = base.partition(".")
    return folder + slash + stem, (dot + ending).lower()


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, ending: str, group: _Group) -> None:
    """Reads a member into its group, or notes why the group makes no record."""
    if ending in group.members:
        group.fault = RecordError("key", f"holds {ending} twice")
    elif member.size > MAX_RECORD:
        group.fault = RecordError("member", f"{ending} has {member.size:,} bytes; the limit is {MAX_RECORD:,}")
    elif _is_image(ending) or ending == ".json" or ending in TEXTS:
        content = tar.extractfile(member)
        assert content is not None
        try:
            group.members[ending] = content.read()
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            group.fault = RecordError("member", f"{ending} is cut short")
            raise _DamageError(f"truncated within {member.name!r}: {error}") from error


def _is_image(ending: str) -> bool:
    return PurePosixPath(ending).suffix in IMAGE_SUFFIXES or ending in IMAGE_SUFFIXES


def _sample(group: _Group, corpus: str, source: Source, where: str, store: MediaStore) -> Sample:
    """Raises RecordError."""
    if group.fault is not None:
        raise group.fault
    row = _row(group)
    images = [data for ending, data in group.members.items() if _is_image(ending)]
    if "conversations" in row or "messages" in row:
        return sample_of(row, [put_image_bytes(data, store) for data in images], corpus, source, where)
    caption = _caption(group, row)
    if len(images) != 1:
        raise RecordError("image", f"a captioned image needs one image, the key has {len(images)}")
    prompt, answer = caption_messages(caption, where)
    turns = [{"role": "user", "content": f"<image>{prompt.text}"}, {"role": "assistant", "content": answer.text}]
    keys = [put_image_bytes(images[0], store)]
    return sample_of({**row, "messages": turns}, keys, corpus, source, where)


def _row(group: _Group) -> dict[str, Any]:
    row = records.parse(group.members.get(".json", b"{}"))
    if isinstance(row, RecordError):
        raise row
    return row


def _caption(group: _Group, row: dict[str, Any]) -> str:
    """The side-car's text, else the JSON's `caption`."""
    for ending in TEXTS:
        if ending in group.members:
            try:
                text = group.members[ending].decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise RecordError(ending[1:], f"not UTF-8 at byte {error.start}") from error
            return clean_text(text, ending[1:]).strip()
    if not any(ending in group.members for ending in (*TEXTS, ".json")):
        raise RecordError("caption", "no .txt, .caption or .json beside the image")
    return clean_text(row.get("caption"), "caption").strip()
