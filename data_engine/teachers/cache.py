"""Answers kept on disk, keyed by what was asked: a run that begins again asks only what is not known yet.

Every process appends to a file of its own, so that any number of them, on any machines that share the folder, need no
lock; all files are read when a process opens the cache. One line is one answer: its key (32 hex digits), the xxh3_64
of the rest (16), and the record as JSON. A process killed while it writes leaves at most its file's last line torn,
which is never read.
"""

import functools
import os
import socket
import threading
from binascii import hexlify
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import orjson
import xxhash

from data_engine.teachers.request import Answer, Token

_FILE_BITS = 40  # a place is file number << 40 | offset: files of up to a terabyte
_MERGE = 100_000


class Cache:
    """The answers of a folder. In memory 16 bytes for each that was there before, about 150 for one written since."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._files = sorted(folder.glob("answers-*.jsonl"))
        self._index = _Index(place for number, path in enumerate(self._files) for place in _places(path, number))
        own = f"answers-{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}.jsonl"
        self._files.append(folder / own)
        self._own: int | None = None
        self._size = 0
        self._pending: deque[tuple[bytes, Answer]] = deque()
        self._lock = threading.Lock()
        self._open = functools.lru_cache(maxsize=64)(lambda number: self._files[number].open("rb"))

    @classmethod
    def at(cls, folder: Path) -> "Cache":
        """This process's one cache of a folder."""
        return _opened(folder.expanduser().resolve(), os.getpid())

    def get(self, key: bytes) -> Answer | None:
        """The answer kept under `key`; None where there is none, or where it is damaged."""
        place = self._index.find(int.from_bytes(key[:8], "big"))
        if place is None:
            return None
        with self._lock:
            content = self._open(place >> _FILE_BITS)
            content.seek(place & ((1 << _FILE_BITS) - 1))
            line = content.readline()
        return _answer(line[50:]) if _is_whole(line, key) else None

    def put(self, key: bytes, answer: Answer) -> None:
        """Keeps an answer; it is in its file, and found, after `flush`."""
        self._pending.append((key, answer))

    def flush(self) -> None:
        """Hands what is pending to the operating system, which keeps it when this process is killed."""
        with self._lock:
            if not self._pending:
                return
            if self._own is None:
                self._own = os.open(self._files[-1], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            kept = [self._pending.popleft() for _ in range(len(self._pending))]
            lines = [_line(key, answer) for key, answer in kept]
            data = memoryview(b"".join(lines))
            while data:
                data = data[os.write(self._own, data) :]
            for (key, _), line in zip(kept, lines, strict=True):
                self._index.add(int.from_bytes(key[:8], "big"), (len(self._files) - 1) << _FILE_BITS | self._size)
                self._size += len(line)


class _Index:
    """Places by the first 64 bits of their keys: a sorted array, and a dict of what came since the last merge."""

    def __init__(self, known: Iterator[tuple[int, int]]) -> None:
        self._keys = self._places = np.empty(0, np.uint64)
        self._recent: dict[int, int] = {}
        for key, place in known:
            self.add(key, place)
        self._merge()

    def find(self, key: int) -> int | None:
        if (place := self._recent.get(key)) is not None:
            return place
        if not len(self._keys):
            return None
        at = int(np.searchsorted(self._keys, np.uint64(key), side="right")) - 1
        return int(self._places[at]) if at >= 0 and self._keys[at] == key else None

    def add(self, key: int, place: int) -> None:
        self._recent[key] = place
        if len(self._recent) >= max(_MERGE, len(self._keys)):
            self._merge()

    def _merge(self) -> None:
        keys = np.concatenate([self._keys, np.fromiter(self._recent.keys(), np.uint64, len(self._recent))])
        places = np.concatenate([self._places, np.fromiter(self._recent.values(), np.uint64, len(self._recent))])
        order = np.argsort(keys, kind="stable")  # of one key's places the last comes last, and is found
        self._keys, self._places, self._recent = keys[order], places[order], {}


@functools.lru_cache(maxsize=8)
def _opened(folder: Path, process: int) -> Cache:  # noqa: ARG001 - a forked process must not write into its parent's file
    return Cache(folder)


def _places(path: Path, number: int) -> Iterator[tuple[int, int]]:
    """(first 64 bits of the key, place) of every line that ends; whether a line is whole is seen when it is read."""
    offset = number << _FILE_BITS
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                with suppress(ValueError):  # a damaged line
                    yield int(line[:16], 16), offset
            offset += len(line)


def _line(key: bytes, answer: Answer) -> bytes:
    tokens = answer.tokens and [(token.text, token.logprob) for token in answer.tokens]
    numbers = (answer.prompt_tokens, answer.completion_tokens, answer.attempts)
    record = orjson.dumps((answer.text, answer.teacher, answer.model, *numbers, answer.finish, tokens, answer.scores))
    return b"%b %016x %b\n" % (hexlify(key), _checksum(record, key), record)


def _checksum(record: bytes, key: bytes) -> int:
    return xxhash.xxh3_64_intdigest(record, int.from_bytes(key[8:], "big"))


def _is_whole(line: bytes, key: bytes) -> bool:
    head = b"%b %016x " % (hexlify(key), _checksum(line[50:-1], key))
    return line.endswith(b"\n") and line[:50] == head


def _answer(record: bytes) -> Answer:
    text, teacher, model, prompt_tokens, completion_tokens, attempts, finish, tokens, scores = orjson.loads(record)
    return Answer(
        text=text, teacher=teacher, model=model, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens,
        finish=finish, tokens=tokens and tuple(Token(*token) for token in tokens), scores=scores and tuple(scores),
        attempts=attempts, cached=True,
    )  # fmt: skip
