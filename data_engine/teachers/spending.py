"""What has been spent, by all processes that share a cache folder, against a budget."""

import os
import socket
import struct
import time
from pathlib import Path

from data_engine.teachers.errors import BudgetError
from data_engine.teachers.recipe import Budget

_RECORD = struct.Struct("<qd")  # tokens, cost
_FRESH = 1.0


class Spending:
    """Tokens and cost of a cache folder, of this run and of all before it.

    Each process notes its own sum in a file of its own (16 bytes, written in place) and reads the others' once a
    second. A process sends nothing more when the sum has reached the budget; so the overrun is at most what is in
    flight in all processes at that moment, and what the others received in the last second (on a shared file system:
    and in the time that it takes to show their files).
    """

    def __init__(self, folder: Path, budget: Budget) -> None:
        self.folder = folder
        self.budget = budget
        self._tokens, self._cost = 0, 0.0
        self._own: Path = folder / f"spent-{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}.bin"
        self._file: int | None = None
        self._others = (0, 0.0)
        self._read_at = float("-inf")

    def add(self, tokens: int, cost: float) -> None:
        """Notes what a reply took."""
        self._tokens += tokens
        self._cost += cost
        if self._file is None:
            self._file = os.open(self._own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.pwrite(self._file, _RECORD.pack(self._tokens, self._cost), 0)

    def close(self) -> None:
        """May be called twice."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def total(self) -> tuple[int, float]:
        """(tokens, cost) of all, at most a second old."""
        if time.monotonic() - self._read_at > _FRESH:
            self._others, self._read_at = self._read(), time.monotonic()
        return self._others[0] + self._tokens, self._others[1] + self._cost

    def check(self) -> None:
        """Raises BudgetError where nothing more may be sent."""
        tokens, cost = self.total()
        most_tokens, most_cost = self.budget.tokens, self.budget.cost
        if (most_tokens is not None and tokens >= most_tokens) or (most_cost is not None and cost >= most_cost):
            limits = [f"{most_tokens:,} tokens"] if most_tokens is not None else []
            limits += [f"a cost of {most_cost:g}"] if most_cost is not None else []
            raise BudgetError(
                f"{self.folder}: budget spent: {tokens:,} tokens, cost {cost:.4g}, of {' and '.join(limits)}; "
                "answers so far are kept: raise budget.tokens or budget.cost and run again"
            )

    def _read(self) -> tuple[int, float]:
        found = [path.read_bytes() for path in self.folder.glob("spent-*.bin") if path != self._own]
        whole = [_RECORD.unpack(data) for data in found if len(data) == _RECORD.size]
        return sum(tokens for tokens, _ in whole), sum(cost for _, cost in whole)
