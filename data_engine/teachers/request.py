"""What is asked of a teacher and what comes back, as plain data."""

from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
import xxhash

from data_engine.sample import Media
from data_engine.teachers.recipe import Teacher


@dataclass(frozen=True, slots=True)
class Image:
    """A picture by reference: it is opened when the request is sent. `media` is an image of the store or a frame of a
    video (see `sample.Media`); it is shown with the longer side at most `max_side` pixels.
    """

    media: Media
    max_side: int | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation: texts and pictures in their order."""

    role: Literal["user", "assistant"]
    parts: tuple[str | Image, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a teacher. `id` is the caller's own name for it and changes nothing.

    `choices`: the answer is one of these texts and nothing else; a teacher in a folder chooses by their
    log-probabilities, a server's reply that is none of them is malformed. Settings that are None are the teacher's.
    `together`: (first seed, number) of requests that differ in nothing but their seeds, from the first on: a folder's
    model reads their prompt once and writes all their answers at the same time. A server is asked one by one.
    """

    turns: tuple[Turn, ...]
    system: str = ""
    choices: tuple[str, ...] = ()
    logprobs: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    together: tuple[int, int] | None = None
    id: str = ""


def question(*parts: str | Image, **settings: Any) -> Request:
    """A request of one user turn."""
    return Request((Turn("user", parts),), **settings)


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a reply and its log-probability (natural, of the model's own distribution)."""

    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A teacher's answer.

    `finish` is the server's word for why it ended (`stop`, `length`). `tokens` are there if they were asked for
    and the teacher has them. `scores` are the choices' log-probabilities, in a folder's answer. `parsed` is what the
    caller's `parse` made of the text. `attempts` counts the sendings it took.
    """

    text: str
    teacher: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    finish: str
    tokens: tuple[Token, ...] | None = None
    scores: tuple[float, ...] | None = None
    attempts: int = 1
    cached: bool = False
    id: str = ""
    parsed: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer: why (a few words, fit for counting), and the particulars: the reply's or the error's beginning."""

    reason: str
    detail: str
    teacher: str
    attempts: int
    id: str = ""


def content(request: Request) -> bytes:
    """The canonical form of what is asked. Raises TypeError for text that is no Unicode (lone surrogates)."""
    return orjson.dumps((request.system, request.turns, request.choices, request.logprobs))


def settings(request: Request, teacher: Teacher) -> bytes:
    """The canonical form of what else an answer depends on: the model's identity and the generation settings."""
    used = (
        teacher.identity,
        teacher.max_tokens if request.max_tokens is None else request.max_tokens,
        teacher.temperature if request.temperature is None else request.temperature,
        teacher.seed if request.seed is None else request.seed,
    )
    return orjson.dumps((*used, request.together) if request.together and teacher.folder else used)


def cache_key(asked: bytes, chosen: bytes) -> bytes:
    """16 bytes: a hash of a request's `content` and `settings`, and of nothing else."""
    return xxhash.xxh3_128_digest(asked + chosen)
