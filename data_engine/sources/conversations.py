"""Conversations about images in the LLaVA and ShareGPT shapes: `.jsonl`, `.json` (one array), `.parquet`.

A row holds `conversations` (or `messages`): turns of `from`/`value` or `role`/`content`; `image` (or
`images`) holds a path or a list of paths relative to the source's folder (in Parquet also the image
itself, as `{bytes, path}`), shown where the text says `<image>` (before the first turn if it says so
nowhere). `task`, `licence` (or `license`) and `attribution` of a row go before the source's own. `trials` are
sampled answers, `[{"correct": true, "tokens": 120}, …]`, from which difficulty is told. Other keys are ignored. A row
without an image counts as text in the mixture.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from pydantic import Field

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Media, Message, Part, Role, Sample, Trial
from data_engine.sources import records
from data_engine.sources.common import (
    Quarantined,
    RecordError,
    clean_text,
    folder_of,
    image_part,
    parse_options,
    put_image_bytes,
    put_image_file,
    quarantining,
)
from strict_yaml import Strict

ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
RIGHTS = ("task", "licence", "attribution")
COLUMNS = ("conversations", "messages", "image", "images", "video", "videos", "trials", "license", *RIGHTS)
PARTITION_UNITS = 64
"""Units that one partition may hold: about 32 MB of JSON, a few hundred MB of samples."""
MAX_TOKENS = 2**31 - 1
"""Of a sampled answer: the table keeps 32 bits."""
_TAG = re.compile(r"\n?<image>\n?")


class ConversationOptions(Strict):
    """`unit_bytes`: about how much of a file is read together."""

    unit_bytes: int = Field(default=1 << 19, ge=1)


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """Parts of files, as `records.units` cuts them."""
    return records.units(root, parse_options(ConversationOptions, options, "conversations").unit_bytes)


@quarantining
def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """A sample per row; a row at fault is quarantined where it is (see `records`), by its field."""
    put = partial(_put, folder=folder_of(root), store=store)
    for where, row in records.rows(root, unit, COLUMNS):
        if isinstance(row, RecordError):
            yield row.at(corpus, where)
            continue
        try:
            keys = [put(image) for image in image_values(row)]
            yield sample_of(row, keys, corpus, source, where)
        except RecordError as error:
            yield error.at(corpus, where)


def _put(image: str | bytes, folder: Path, store: MediaStore) -> str:
    return _put_file(image, folder, store.root) if isinstance(image, str) else put_image_bytes(image, store)


@lru_cache(maxsize=1 << 16)
def _put_file(image: str, folder: Path, store: Any) -> str:
    """Many rows ask about one picture: it is read and hashed once."""
    return put_image_file(image, folder, MediaStore(store))


def sample_of(row: dict[str, Any], keys: Sequence[str], corpus: str, source: Source, origin: str) -> Sample:
    """The row as a sample that shows the images `keys`, in their order. Raises RecordError."""
    task, attribution = (_right(row, name, getattr(source, name)) for name in ("task", "attribution"))
    return Sample(
        corpus=corpus,
        modality=source.modality if keys else "text",
        task=task,
        messages=parse_messages(row, len(keys)),
        media=tuple(Media("image", key) for key in keys),
        licence=_licence(row, source.licence),
        attribution=attribution,
        source=source.path,
        origin=origin,
        group=keys[0] if keys else origin,
        trials=_trials([] if row.get("trials") is None else row["trials"]),
    )


def _trials(value: Any) -> tuple[Trial, ...]:
    if not isinstance(value, list):
        raise RecordError("trials", "must be a list of {correct, tokens}")
    return tuple([_trial(item) for item in value])


def _trial(item: Any) -> Trial:
    if not isinstance(item, dict):
        raise RecordError("trials", f"a trial must be an object, not a {type(item).__name__}")
    correct, tokens = item.get("correct"), item.get("tokens")
    if not isinstance(correct, int) or correct not in {0, 1}:
        raise RecordError("trials", f"`correct` must be true, false, 1 or 0, is {str(correct)[:40]!r}")
    if not isinstance(tokens, int) or isinstance(tokens, bool) or not 0 <= tokens <= MAX_TOKENS:
        raise RecordError(
            "trials", f"`tokens` must be a whole number from 0 to {MAX_TOKENS:,}, is {str(tokens)[:40]!r}"
        )
    return Trial(bool(correct), tokens)


def _right(row: dict[str, Any], name: str, default: str) -> str:
    value = row.get(name)
    return default if value is None else clean_text(value, name)


def _licence(row: dict[str, Any], default: str) -> str:
    """By either spelling; where both are given, both hold."""
    given = [clean_text(row[name], name) for name in ("licence", "license") if row.get(name) is not None]
    return ", ".join(dict.fromkeys(given)) or default


def image_values(row: dict[str, Any]) -> list[str | bytes]:
    """Paths, or the bytes that a Parquet file holds itself. Raises RecordError."""
    for name in ("video", "videos"):
        if row.get(name):
            raise RecordError(name, "this format reads no videos")
    value = row.get("image")
    value = row.get("images") if value is None else value
    if value is None:
        return []
    found = [_image_value(item) for item in (value if isinstance(value, list) else [value])]
    if len(set(found)) < len(found):
        twice = next(item for item in found if found.count(item) > 1)
        raise RecordError("image", f"named twice: {twice!r}" if isinstance(twice, str) else "the same bytes twice")
    return found


def _image_value(value: Any) -> str | bytes:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if not isinstance(value, str | bytes) or not value:
        raise RecordError("image", "must be a path or a list of paths")
    return value


def parse_messages(row: dict[str, Any], num_images: int) -> tuple[Message, ...]:
    """The turns, with images at their tags. Raises RecordError."""
    field = "conversations" if row.get("conversations") is not None else "messages"
    turns = row.get(field)
    if not isinstance(turns, list) or not turns:
        reason = "missing" if turns is None else "wrong type" if turns else "empty"
        raise RecordError("conversations", f"{reason}: a row needs a list of turns in `conversations` or `messages`")
    pairs = [_turn(turn, field, index) for index, turn in enumerate(turns)]
    _check_order(pairs, field)
    tags = "".join([text for _, text in pairs]).count("<image>")
    if num_images and not tags:
        first = next(index for index, (role, _) in enumerate(pairs) if role == "user")
        pairs[first] = (pairs[first][0], "<image>" * num_images + pairs[first][1])
        tags = num_images
    if tags != num_images:
        raise RecordError("image", f"the text shows {tags} images, the row names {num_images}")
    if not tags:
        return tuple([Message(role, (Part("text", text),)) for role, text in pairs])
    shown = iter(range(num_images))
    return tuple([Message(role, tuple(_parts(text, shown))) for role, text in pairs])


def _turn(turn: Any, field: str, index: int) -> tuple[Role, str]:
    if not isinstance(turn, dict):
        raise RecordError(f"{field}[{index}]", f"a turn must be an object, not a {type(turn).__name__}")
    role_key, text_key = ("from", "value") if turn.get("from") is not None else ("role", "content")
    role, text = turn.get(role_key), turn.get(text_key)
    if not (isinstance(text, str) and isinstance(role, str) and "\0" not in text and text and not text.isspace()):
        # Only a turn at fault pays for the names of its fields.
        role = clean_text(role, f"{field}[{index}].{role_key}")
        text = clean_text(text, f"{field}[{index}].{text_key}")
    if role not in ROLES:
        raise RecordError(f"{field}[{index}].{role_key}", f"unknown role {role!r}; known: {', '.join(ROLES)}")
    return ROLES[role], text


def _check_order(pairs: Sequence[tuple[Role, str]], field: str) -> None:
    """One system turn at most, first; then user and assistant by turns."""
    expected: Role = "user"
    for index, (role, _) in enumerate(pairs):
        if role == "system" and index == 0:
            continue
        if role != expected:
            raise RecordError(f"{field}[{index}]", f"roles out of order: {role} where {expected} is due")
        expected = "assistant" if role == "user" else "user"
    if "assistant" not in {role for role, _ in pairs}:
        raise RecordError(field, "no turn of the assistant to learn from")


def _parts(text: str, shown: Iterator[int]) -> Iterator[Part]:
    first, *rest = _TAG.split(text)
    if first:
        yield Part("text", first)
    for piece in rest:
        yield image_part(next(shown))
        if piece:
            yield Part("text", piece)
