"""The one record, from ingest to gradient.

A `Sample` is a conversation (or a plain document) whose images and videos are references into the
content-addressed media store. Measures, token counts and verdicts live in side tables keyed by
`Sample.id`, so that a threshold, a tokenizer or a preset changes no sample.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any, Literal

import orjson
import pyarrow as pa

SCHEMA_VERSION = 1

Modality = Literal["video", "image", "text"]
MODALITIES: tuple[Modality, ...] = ("video", "image", "text")
Role = Literal["system", "user", "assistant", "document"]

_PART = pa.struct([("kind", pa.string()), ("text", pa.string()), ("media", pa.list_(pa.int32()))])
_MESSAGE = pa.struct([("role", pa.string()), ("parts", pa.list_(_PART))])
_MEDIA = pa.struct([("kind", pa.string()), ("key", pa.string()), ("start", pa.float64()), ("end", pa.float64())])
_TRIAL = pa.struct([("correct", pa.bool_()), ("tokens", pa.int32())])

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("schema_version", pa.int32()),
        ("corpus", pa.string()),
        ("modality", pa.string()),
        ("task", pa.string()),
        ("messages", pa.list_(_MESSAGE)),
        ("media", pa.list_(_MEDIA)),
        ("licence", pa.string()),
        ("attribution", pa.string()),
        ("source", pa.string()),
        ("origin", pa.string()),
        ("group", pa.string()),
        ("parents", pa.list_(pa.string())),
        ("trials", pa.list_(_TRIAL)),
    ]
)


@dataclass(frozen=True, slots=True)
class Media:
    """A reference into the media store, never bytes.

    `kind="image"` with `start` set is the frame of the video `key` at `start` seconds.
    `kind="video"` with `start`/`end` is that span of the video; without them, all of it.
    """

    kind: Literal["image", "video"]
    key: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a message: text, or an image or video shown at that place.

    `media` holds indices into `Sample.media`: one for an image; one or more for a video, whose
    spans are played one after the other (a splice is two spans).
    """

    kind: Literal["text", "image", "video"]
    text: str | None = None
    media: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. The role `document` is plain text outside any chat: every token is a target."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        return "".join(part.text or "" for part in self.parts)


@dataclass(frozen=True, slots=True)
class Trial:
    """One sampled answer to the sample's question: whether it was right, and how long it was."""

    correct: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class Sample:
    """See the module docstring.

    `source` is the recipe's path of the source that `origin` is a place in. `group` is what a held-out split must
    not divide (an image, a page). `trials` is what a model made of the question when it was asked several times; like
    rights and origin it is no part of the content.
    """

    corpus: str
    modality: Modality
    task: str
    messages: tuple[Message, ...]
    media: tuple[Media, ...] = ()
    licence: str = ""
    attribution: str = ""
    source: str = ""
    origin: str = ""
    group: str = ""
    parents: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()
    schema_version: int = SCHEMA_VERSION
    id: str = field(default="")

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", content_id(self))

    @property
    def text(self) -> str:
        """All words of the conversation, turns joined by newlines: what text measures look at."""
        return "\n".join(message.text for message in self.messages if message.text)


def content_id(sample: Sample) -> str:
    """24 hex digits of SHA-256 over what the model is shown: messages, media, modality and task.

    Rights, origin and schema version stay outside: the same content found twice has one id.
    """
    content = {
        "media": [{"end": m.end, "key": m.key, "kind": m.kind, "start": m.start} for m in sample.media],
        "messages": [
            {"parts": [{"kind": p.kind, "media": p.media, "text": p.text} for p in m.parts], "role": m.role}
            for m in sample.messages
        ],
        "modality": sample.modality,
        "task": sample.task,
    }  # keys in the order of the alphabet: the canonical form
    return hashlib.sha256(orjson.dumps(content)).hexdigest()[:24]


def text_part(text: str) -> Part:
    return Part("text", text=text)


def user(*parts: Part | str) -> Message:
    return Message("user", tuple(text_part(p) if isinstance(p, str) else p for p in parts))


def assistant(text: str) -> Message:
    return Message("assistant", (text_part(text),))


def document(text: str) -> Message:
    return Message("document", (text_part(text),))


def told_anew(sample: Sample, words: str) -> tuple[Message, ...]:
    """A sample's turns, the last answer replaced by `words`; a document's words become those, under its pictures."""
    spoken = [place for place, message in enumerate(sample.messages) if message.role in {"assistant", "document"}]
    if not spoken:
        return (*sample.messages, assistant(words))
    last = sample.messages[spoken[-1]]
    pictures = tuple(part for part in last.parts if part.kind != "text")
    made = Message(last.role, (*pictures, text_part(words)))
    return (*sample.messages[: spoken[-1]], made, *sample.messages[spoken[-1] + 1 :])


def to_table(samples: Iterable[Sample]) -> pa.Table:
    """Samples as an Arrow table with `SCHEMA`: each nested column is built from one flat list per field."""
    rows = list(samples)
    messages = [message for row in rows for message in row.messages]
    parts = [part for message in messages for part in message.parts]
    media = [item for row in rows for item in row.media]
    part_columns = [
        pa.array([part.kind for part in parts], pa.string()),
        pa.array([part.text for part in parts], pa.string()),
        _lists(pa.array(list(chain.from_iterable(part.media for part in parts)), pa.int32()), [p.media for p in parts]),
    ]
    part_structs = pa.StructArray.from_arrays(part_columns, fields=list(_PART))
    message_columns = [
        pa.array([message.role for message in messages], pa.string()),
        _lists(part_structs, [message.parts for message in messages]),
    ]
    columns: dict[str, Any] = {
        name: pa.array([getattr(row, name) for row in rows], SCHEMA.field(name).type) for name in _PLAIN
    }
    columns["messages"] = _lists(
        pa.StructArray.from_arrays(message_columns, fields=list(_MESSAGE)), [row.messages for row in rows]
    )
    columns["media"] = _lists(
        pa.StructArray.from_arrays(
            [pa.array([getattr(item, f.name) for item in media], f.type) for f in _MEDIA], fields=list(_MEDIA)
        ),
        [row.media for row in rows],
    )
    trials = [trial for row in rows for trial in row.trials]
    columns["trials"] = _lists(
        pa.StructArray.from_arrays(
            [pa.array([getattr(trial, f.name) for trial in trials], f.type) for f in _TRIAL], fields=list(_TRIAL)
        ),
        [row.trials for row in rows],
    )
    columns["parents"] = _lists(
        pa.array(list(chain.from_iterable(row.parents for row in rows)), pa.string()), [row.parents for row in rows]
    )
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


_PLAIN = tuple(name for name in SCHEMA.names if name not in {"messages", "media", "parents", "trials"})


def _lists(values: pa.Array, groups: Sequence[Sequence[Any]]) -> pa.ListArray:
    """`values` cut into lists as long as the groups."""
    return pa.ListArray.from_arrays(pa.array(accumulate(map(len, groups), initial=0), pa.int32()), values)


def from_row(row: dict[str, Any]) -> Sample:
    """A row of a sample table (or the JSON of a shard) as a `Sample`, whichever version wrote it.

    Columns a newer version added take their defaults; columns of other tables are ignored.
    Raises ValueError for a row written by a version newer than this code.
    """
    version = row.get("schema_version") or 1
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"sample {row.get('id')}: schema_version {version} is newer than this code's "
            f"{SCHEMA_VERSION}; update keyeforge"
        )
    return Sample(
        corpus=row["corpus"],
        modality=row["modality"],
        task=row["task"],
        messages=tuple(_message(m) for m in row["messages"]),
        media=tuple(Media(m["kind"], m["key"], m.get("start"), m.get("end")) for m in row.get("media") or ()),
        licence=row.get("licence") or "",
        attribution=row.get("attribution") or "",
        source=row.get("source") or "",
        origin=row.get("origin") or "",
        group=row.get("group") or "",
        parents=tuple(row.get("parents") or ()),
        trials=tuple(Trial(t["correct"], t["tokens"]) for t in row.get("trials") or ()),
        schema_version=version,
        id=row["id"],
    )


def _message(row: dict[str, Any]) -> Message:
    parts = tuple(Part(p["kind"], p.get("text"), tuple(p.get("media") or ())) for p in row["parts"])
    return Message(row["role"], parts)


def from_table(table: pa.Table) -> list[Sample]:
    return [from_row(row) for row in table.to_pylist()]
