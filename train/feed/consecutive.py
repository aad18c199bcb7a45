"""Which samples share a row: pure functions over token counts, so every rank computes the same plan.

A batch is a run of consecutive positions of the stream, packed into a fixed number of rows. The state of
a run is therefore one position, whatever the number of ranks and workers.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows of positions: each row's samples lie one after the other.

    The batch covers positions `start` to `stop` (exclusive): those in `rows` and those in `too_long`, which
    no row can hold and which whoever consumes the batch must record.
    """

    start: int
    stop: int
    rows: tuple[tuple[int, ...], ...]
    too_long: tuple[int, ...]
    tokens: int


def first_fit_decreasing(tokens: Mapping[int, int], num_rows: int, context: int) -> "Rows | None":
    """Positions per row, the longest sample first into the first row with room; None where one fits nowhere."""
    rows = Rows.empty(num_rows, context)
    for position in sorted(tokens, key=lambda position: (-tokens[position], position)):
        if not rows.place(position, tokens[position]):
            return None
    return rows


@dataclass(slots=True)
class Rows:
    """Rows being filled, and the room left in each."""

    positions: list[list[int]]
    free: list[int]

    @classmethod
    def empty(cls, num_rows: int, context: int) -> "Rows":
        return cls([[] for _ in range(num_rows)], [context] * num_rows)

    def place(self, position: int, tokens: int) -> bool:
        """Puts the sample into the first row with room; False where there is none."""
        for row, free in enumerate(self.free):
            if free >= tokens:
                self.positions[row].append(position)
                self.free[row] -= tokens
                return True
        return False


def plan_batches(tokens: Iterable[tuple[int, int]], num_rows: int, context: int) -> Iterator[Packed]:
    """Batches over consecutive (position, tokens).

    Samples are placed as they come; where one finds no room, all of the batch is packed anew, the longest
    first. The sample that finds no room then either starts the next batch, so that no batch depends on what
    came before its first position. The last batch is as short as the input leaves it.
    """
    batch = _Open(num_rows, context)
    for position, count in tokens:
        if not batch.add(position, count):
            yield batch.close()
            batch = _Open(num_rows, context)
            batch.add(position, count)
    if batch.start is not None:
        yield batch.close()


class _Open:
    """The batch being filled."""

    def __init__(self, num_rows: int, context: int) -> None:
        self.context = context
        self.rows = Rows.empty(num_rows, context)
        self.counts: dict[int, int] = {}
        self.too_long: list[int] = []
        self.start: int | None = None
        self.stop = 0

    def add(self, position: int, count: int) -> bool:
        """Takes the sample in, or says False and stays as it was."""
        if count > self.context:
            self.too_long.append(position)
        elif self.rows.place(position, count):
            self.counts[position] = count
        elif not self._repack(position, count):
            return False
        self.start = position if self.start is None else self.start
        self.stop = position + 1
        return True

    def _repack(self, position: int, count: int) -> bool:
        if count > sum(self.rows.free):
            return False
        counts = {**self.counts, position: count}
        rows = first_fit_decreasing(counts, len(self.rows.free), self.context)
        if rows is None:
            return False
        self.rows, self.counts = rows, counts
        return True

    def close(self) -> Packed:
        assert self.start is not None
        rows = tuple(tuple(row) for row in self.rows.positions)
        return Packed(self.start, self.stop, rows, tuple(self.too_long), sum(self.counts.values()))
