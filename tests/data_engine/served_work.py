"""What the tests let I/O servers do: plain functions of paths and numbers, importable in the servers."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_engine.media import decode_image
from data_engine.stream.io_server import serve


class OddError(ValueError):
    """Cannot be made of its words alone, so pickling it takes care."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"{name} is odd: {number}")
        self.number = number


def decoded(path: str) -> dict[str, Any]:
    """Real work: a file's pixels, its name, and something nested."""
    pixels = decode_image(Path(path).read_bytes())
    return {"name": path, "pixels": pixels, "mean": pixels.mean(axis=(0, 1)), "rows": [pixels[:1], pixels[::2, ::2]]}


def tensors(size: int) -> dict[str, Any]:
    import torch

    wide = torch.arange(size, dtype=torch.float32)
    return {"wide": wide, "turned": wide.view(2, -1).T, "half": wide.to(torch.bfloat16), "few": wide[:3]}


def pid(_: object) -> int:
    return os.getpid()


def threads(_: object) -> tuple[int, int]:
    """Threads of the process that servers are forked from, and of this server but for its listener."""
    return _threads(os.getppid()), _threads(os.getpid()) - 1


def _threads(process: int) -> int:
    return len(list(Path(f"/proc/{process}/task").iterdir()))


def refuse(number: int) -> int:
    if number == 5:
        raise ValueError("five is not wanted")
    return number


def refuse_strangely(number: int) -> int:
    if number == 5:
        raise OddError("five", 5)
    return number


def unsendable(number: int) -> object:
    return threading.Lock() if number == 2 else number


class Doomed:
    """Ends its process at some numbers, as often as said, then answers: `folder` remembers."""

    def __init__(self, folder: Path, numbers: dict[int, int], how: str = "kill") -> None:
        self.folder, self.numbers, self.how = str(folder), numbers, how

    def __call__(self, number: int) -> tuple[int, np.ndarray]:
        ended = Path(self.folder) / str(number)
        times = ended.stat().st_size if ended.exists() else 0
        if times < self.numbers.get(number, 0):
            with ended.open("ab") as file:
                file.write(b"x")
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(7)
        return number, np.full(50_000, number)


class Reads:
    """Reads a file; notes which process is at it, and which child of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __call__(self, name: str) -> bytes:
        child = subprocess.Popen(["sleep", "1000"])
        with (Path(self.folder) / "pids").open("a") as file:
            file.write(json.dumps([os.getpid(), child.pid]) + "\n")
        found = (Path(self.folder) / name).read_bytes()
        child.kill()
        child.wait()
        return found

    def pids(self) -> list[list[int]]:
        path = Path(self.folder) / "pids"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Stuck(Reads):
    """Waits for ever in foreign code that keeps the interpreter's lock, so that no thread of the server runs."""

    def __call__(self, name: str) -> bytes:
        if name == "fifo":
            super().__call__("given")
            ctypes.PyDLL(None).pause()
        return super().__call__(name)


class CannotLoad:
    def __setstate__(self, state: object) -> None:
        raise OSError("no such index")

    def __getstate__(self) -> dict[str, int]:
        return {"a": 1}

    def __call__(self, request: object) -> object:
        return request


class DiesAtLoad(CannotLoad):
    def __setstate__(self, state: object) -> None:
        if os.environ.get("CONSUMER") != str(os.getpid()):
            os._exit(3)


def consume(work: str, kind: str, folder: str) -> None:
    """A consumer that says where its servers are, and then waits for ever."""

    def requests() -> Iterator[str]:
        yield from ["given", "given", "fifo", "fifo"]

    for _ in serve(globals()[work](Path(folder)), requests(), servers=2, kind=kind):  # type: ignore[arg-type]
        print("taken", flush=True)


if __name__ == "__main__":
    from tests.data_engine import served_work  # what is of `__main__` no server can import

    served_work.consume(*sys.argv[1:])


def nothing(_: object) -> dict[str, object]:
    """Work of a partition that writes no table."""
    return {}
