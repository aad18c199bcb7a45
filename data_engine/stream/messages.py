"""What passes between a consumer and its I/O servers: pickles whose arrays lie beside them.

A small message goes through the socket itself. A larger one lies in memory that has no name (a memfd), and the socket
carries its descriptor: whoever receives it maps that memory, and the arrays are views of it. So nothing is left to be
removed, whoever dies, and the size of /dev/shm is no limit.
"""

import io
import mmap
import os
import pickle
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

INLINE = 16 << 10  # bytes of a message that goes through the socket
BESIDE = 4 << 10  # bytes from which an array lies beside its pickle
ALIGN = 64  # bytes, of arrays in memory
PLACE = struct.Struct("QQ")  # where in the memory the pickle lies, and its size

Message = tuple[bytes, list[int]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What `work` returned, or the exception it raised instead; `at`: when, by time.monotonic."""

    value: Any = None
    error: BaseException | None = None
    at: float = 0.0

    def result(self) -> Any:
        """The value; raises the exception."""
        if self.error is not None:
            raise self.error
        return self.value


def answer(work: Callable[[Any], Any], request: Any) -> Answer:
    """`work(request)`, whatever comes of it."""
    try:
        return Answer(work(request), at=time.monotonic())
    except BaseException as error:
        return Answer(error=portable(error), at=time.monotonic())


def portable(error: BaseException) -> BaseException:
    """The exception as another process can raise it: without its traceback, of which a note keeps the last line.

    One that cannot be pickled becomes a RuntimeError with its type and words.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if frames:
        error.add_note(f"raised in {frames[-1].filename}:{frames[-1].lineno}, {frames[-1].name}")
    error.__traceback__ = error.__cause__ = error.__context__ = None
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        """A tensor travels as the array it shares its memory with: by itself it would be copied into the pickle."""
        if type(value).__name__ == "Tensor" and type(value).__module__ == "torch" and not value.requires_grad:
            try:
                return sys.modules["torch"].from_numpy, (value.numpy(),)
            except TypeError:  # on a GPU, or of a type that numpy lacks
                return NotImplemented
        return NotImplemented


def dump(value: Any) -> tuple[bytes, list[memoryview]]:
    """A pickle of `value` and the memory of its larger arrays."""
    beside: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        """Whether it goes into the pickle."""
        memory = buffer.raw()
        if memory.nbytes >= BESIDE:
            beside.append(memory)
        return memory.nbytes < BESIDE

    file = io.BytesIO()
    _Pickler(file, 5, buffer_callback=keep).dump(value)
    return file.getvalue(), beside


def send(channel: socket.socket, value: Any) -> None:
    """Raises what pickling raises, and OSError where the other side is gone."""
    head, beside = dump(value)
    if not beside and len(head) <= INLINE:
        channel.send(head)
        return
    file = os.memfd_create("message")
    try:
        end, spans = 0, []
        for memory in beside:
            spans.append((end, memory.nbytes))
            _write(file, memory, end)
            end += -(-memory.nbytes // ALIGN) * ALIGN
        last = pickle.dumps((spans, head))
        _write(file, memoryview(last), end)
        socket.send_fds(channel, [PLACE.pack(end, len(last))], [file])
    finally:
        os.close(file)


def _write(file: int, memory: memoryview, offset: int) -> None:
    done = 0
    while done < memory.nbytes:  # Linux takes 2 GiB at once
        done += os.pwrite(file, memory[done:], offset + done)


def receive(channel: socket.socket) -> Message:
    """The next message as it came. Raises EOFError where the other side is gone."""
    try:
        data, files, *_ = socket.recv_fds(channel, INLINE, 1, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        data, files = b"", []
    if not data:
        raise EOFError
    return data, files


def load(message: Message) -> Any:
    """What was sent. Its larger arrays are the sender's memory, which is freed with the last of them."""
    data, files = message
    if not files:
        return pickle.loads(data)
    memory = mmap.mmap(files[0], 0, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))
    os.close(files[0])
    view = memoryview(memory)
    start, size = PLACE.unpack(data)
    spans, head = pickle.loads(view[start : start + size])
    return pickle.loads(head, buffers=[view[start : start + size] for start, size in spans])
