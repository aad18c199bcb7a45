"""One thread for torch while a measure is made."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def one_thread() -> Iterator[None]:
    """How a sum is shared out among threads decides its last bits, and each runner gives a process another number of
    threads: with one, a score is the same wherever it is made. Also a decorator.
    """
    torch: Any = importlib.import_module("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
