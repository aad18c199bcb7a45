"""Where the elements of a huge JSON array begin and end, found without parsing or holding it."""

from collections.abc import Iterator
from io import BufferedIOBase

import numba
import numpy as np
import numpy.typing as npt

from data_engine.sources.common import MAX_RECORD

CHUNK = 1 << 20
_QUOTE, _BACKSLASH, _COMMA = ord('"'), ord("\\"), ord(",")
_OPEN_SQUARE, _OPEN_CURLY, _CLOSE_SQUARE, _CLOSE_CURLY = (ord(mark) for mark in "[{]}")


class Elements:
    """The raw elements of one array, read in chunks; `began` and `closed` say whether its ends were met.

    `inside=True` starts within an array, after its `[` or one of its commas.
    """

    def __init__(self, stream: BufferedIOBase, size: int | None = None, *, inside: bool = False) -> None:
        self._stream, self._left = stream, size
        # Depth of brackets, whether in a string, whether after a backslash.
        self._state = np.array([1 if inside else 0, 0, 0], dtype=np.int64)
        self.began = inside
        self.closed = False
        self.tail = b""
        """What follows the array's end; or precedes its beginning, if it is no array at all."""

    def __iter__(self) -> Iterator[tuple[int, bytes | None, int]]:
        """(offset from the start, element without its separator or None if over MAX_RECORD, its size)."""
        held: list[bytes] = []
        size = at = position = 0
        while chunk := self._chunk():
            start = 0
            if not self.began:
                start = self._begin(chunk)
                at = position + start
                if not self.began:
                    if self.tail:
                        return
                    position += len(chunk)
                    continue
            for cut in self._cuts(chunk, start):
                size += cut - start
                yield at, b"".join([*held, chunk[start:cut]]) if size <= MAX_RECORD else None, size
                held, size, start = [], 0, cut + 1
                at = position + start
            position += len(chunk)
            if self.closed:
                self.tail = chunk[start:] + self._stream.read(1024)
                return
            size += len(chunk) - start
            held = [*held, chunk[start:]] if size <= MAX_RECORD else []
        if size:
            yield at, b"".join(held) if size <= MAX_RECORD else None, size

    def _chunk(self) -> bytes:
        chunk = self._stream.read1(CHUNK if self._left is None else min(CHUNK, self._left))
        if self._left is not None:
            self._left -= len(chunk)
        return chunk

    def _begin(self, chunk: bytes) -> int:
        """Just behind the `[`; notes what stands there instead."""
        start = len(chunk) - len(chunk.removeprefix(b"\xef\xbb\xbf").lstrip())
        if chunk[start : start + 1] == b"[":
            self.began, self._state[0] = True, 1
            return start + 1
        self.tail = chunk[start : start + 20]
        return start

    def _cuts(self, chunk: bytes, start: int) -> list[int]:
        found = np.empty(len(chunk) - start, dtype=np.int64)
        count = _scan(np.frombuffer(chunk, np.uint8)[start:], self._state, found)
        self.closed = bool(self._state[0] == 0)
        cuts: list[int] = (found[:count] + start).tolist()
        return cuts


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _scan(data: npt.NDArray[np.uint8], state: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> int:
    """Writes where elements at depth 1 end, carries `state` to the next chunk. Returns how many."""
    depth, in_string, escaped = state[0], state[1], state[2]
    count = 0
    for index in range(data.size):
        byte = data[index]
        if in_string:
            if escaped:
                escaped = 0
            elif byte == _BACKSLASH:
                escaped = 1
            elif byte == _QUOTE:
                in_string = 0
        elif byte == _QUOTE:
            in_string = 1
        elif byte in (_OPEN_CURLY, _OPEN_SQUARE):
            depth += 1
        elif byte in (_CLOSE_CURLY, _CLOSE_SQUARE):
            depth -= 1
            if depth == 0:
                found[count] = index
                count += 1
                break
        elif byte == _COMMA and depth == 1:
            found[count] = index
            count += 1
    state[0], state[1], state[2] = depth, in_string, escaped
    return count
