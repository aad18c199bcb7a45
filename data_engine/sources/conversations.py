"""Conversations about images as JSON lines, in the LLaVA and ShareGPT shapes (also gzipped).

A line holds `conversations` (or `messages`): turns of `from`/`value` or `role`/`content`; `image` (or
`images`) holds a path or a list of paths relative to the source's folder, shown where the text says
`<image>` (before the first turn if it says so nowhere).
"""

import json
import re
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Media, Message, Part, Role, Sample, text_part
from data_engine.sources.common import (
    Quarantined,
    files,
    folder_of,
    image_part,
    inside,
    make_sample,
    open_binary,
    parse_options,
)
from strict_yaml import Strict

ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_TAG = re.compile(r"\n?<image>\n?")


class ConversationOptions(Strict):
    """`unit_lines`: how many lines are read together."""

    unit_lines: int = Field(default=500, ge=1)


class _LineError(ValueError):
    """A fault of one line: which field, and why."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """Ranges of lines, `file.jsonl:0-500` (from the first up to, not including, the second; from 0)."""
    size = parse_options(ConversationOptions, options, "conversations").unit_lines
    found = []
    for name in files(root, {".jsonl"}):
        count = max(1, _count_lines(folder_of(root) / name))
        found += [f"{name}:{start}-{min(start + size, count)}" for start in range(0, count, size)]
    return found


def _count_lines(path: Path) -> int:
    """Lines of a file; a damaged gzip counts one line more than it gives, so that reading meets the fault."""
    count = 0
    try:
        with open_binary(path) as stream:
            for _ in stream:
                count += 1
    except (OSError, EOFError, zlib.error):
        count += 1
    return count


def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """A sample per line; a line at fault is quarantined by `file:line` (lines count from 1) and field."""
    name, _, span = unit.rpartition(":")
    start, end = (int(number) for number in span.split("-"))
    path = folder_of(root) / name
    if path.stat().st_size == 0:
        yield Quarantined(corpus, name, "file", "empty file")
        return
    lines, fault = _take_lines(path, start, end)
    for number, line in enumerate(lines, start=start + 1):
        if not line.strip():
            continue
        try:
            messages, media = _parse_line(line, folder_of(root), store)
        except _LineError as error:
            yield Quarantined(corpus, f"{name}:{number}", error.field, str(error))
        else:
            yield make_sample(corpus, source, messages, media, origin=f"{name}:{number}")
    if fault:
        yield Quarantined(corpus, f"{name}:{start + len(lines) + 1}", "file", f"cannot be read: {fault}")


def _take_lines(path: Path, start: int, end: int) -> tuple[list[bytes], Exception | None]:
    """The lines of a range; from a damaged gzip those before the damage, and the fault."""
    lines: list[bytes] = []
    try:
        with open_binary(path) as stream:
            lines.extend(islice(stream, start, end))
    except (OSError, EOFError, zlib.error) as fault:
        return lines, fault
    return lines, None


def _parse_line(line: bytes, folder: Path, store: MediaStore) -> tuple[list[Message], list[Media]]:
    """A line's turns and images, these put into the store. Raises _LineError."""
    row = _parse_json(line)
    media = [Media("image", _store_image(path, folder, store)) for path in _image_paths(row)]
    return _messages(row, len(media)), media


def _parse_json(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _LineError("json", f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise _LineError("json", f"not JSON at column {error.colno}: {error.msg}") from error
    if not isinstance(row, dict):
        raise _LineError("json", f"a line must hold an object, not a {type(row).__name__}")
    return row


def _image_paths(row: dict[str, Any]) -> list[str]:
    value = row["image"] if "image" in row else row.get("images", [])
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise _LineError("image", "must be a path or a list of paths")
    return paths


def _store_image(relative: str, folder: Path, store: MediaStore) -> str:
    try:
        path = inside(folder, relative)
    except ValueError as error:
        raise _LineError("image", str(error)) from error
    if not path.is_file():
        raise _LineError("image", f"no such file: {relative!r}")
    if path.stat().st_size == 0:
        raise _LineError("image", f"empty file: {relative!r}")
    return store.put_file(path)


def _messages(row: dict[str, Any], num_images: int) -> list[Message]:
    """The turns, with images at their tags. Raises _LineError."""
    field = "conversations" if "conversations" in row else "messages"
    turns = row.get(field)
    if not isinstance(turns, list) or not turns:
        raise _LineError("conversations", "missing: a line needs a list of turns in `conversations` or `messages`")
    pairs = [_turn(turn, f"{field}[{index}]") for index, turn in enumerate(turns)]
    tags = sum(len(_TAG.findall(text)) for _, text in pairs)
    if num_images and not tags:
        first = next((index for index, (role, _) in enumerate(pairs) if role == "user"), 0)
        pairs[first] = (pairs[first][0], "<image>" * num_images + pairs[first][1])
        tags = num_images
    if tags != num_images:
        raise _LineError("image", f"the text shows {tags} images, the line names {num_images}")
    if not any(role == "assistant" for role, _ in pairs):
        raise _LineError(field, "no turn of the assistant to learn from")
    shown = iter(range(num_images))
    return [Message(role, tuple(_parts(text, shown))) for role, text in pairs]


def _turn(turn: Any, field: str) -> tuple[Role, str]:
    if not isinstance(turn, dict):
        raise _LineError(field, f"a turn must be an object, not a {type(turn).__name__}")
    role_key, text_key = ("from", "value") if "from" in turn else ("role", "content")
    for key in (role_key, text_key):
        if not isinstance(turn.get(key), str):
            raise _LineError(f"{field}.{key}", "missing" if key not in turn else "must be text")
    if turn[role_key] not in ROLES:
        raise _LineError(f"{field}.{role_key}", f"unknown role {turn[role_key]!r}; known: {', '.join(ROLES)}")
    if not turn[text_key].strip():
        raise _LineError(f"{field}.{text_key}", "empty")
    return ROLES[turn[role_key]], turn[text_key]


def _parts(text: str, shown: Iterator[int]) -> Iterator[Part]:
    first, *rest = _TAG.split(text)
    if first:
        yield text_part(first)
    for piece in rest:
        yield image_part(next(shown))
        if piece:
            yield text_part(piece)
