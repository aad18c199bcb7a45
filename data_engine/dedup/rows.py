"""What a deduplication pass works on: the rows of a corpus, part by part, and which of them are still kept.

Rows are numbered through all parts, in the order of ingestion; the parts of earlier releases come first. Of two
duplicates the one with the smaller number stays, so that an earlier release, and an earlier source, wins.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine import tables

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """One part: samples and measures, row for row.

    An earlier release's part has only kept rows; `signed` is the folder of that release's own MinHash pass, if any.
    """

    samples: Path
    measures: Path
    earlier: bool = False
    signed: Path | None = None


@dataclass(frozen=True, slots=True)
class Drops:
    """What a pass found: rows to drop, with the row kept in the place of each (-1: none) and a reason (or null)."""

    row: Ints
    keeper: Ints
    reason: pa.Array

    @classmethod
    def duplicates(cls, row: Ints, keeper: Ints) -> "Drops":
        order = np.argsort(row, kind="stable")
        return cls(row[order], keeper[order], pa.nulls(len(row), pa.string()))


class Rows:
    """The rows of all parts; `alive` says which no operator and no pass before this one has dropped."""

    def __init__(self, parts: Sequence[Part], alive: npt.NDArray[np.bool_] | None = None) -> None:
        self.parts = list(parts)
        sizes = [tables.num_rows(part.measures) for part in self.parts]
        self.start: Ints = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.alive = np.ones(len(self), bool) if alive is None else alive
        assert len(self.alive) == len(self)

    def __len__(self) -> int:
        return int(self.start[-1])

    @property
    def first_new(self) -> int:
        """The first row that is not of an earlier release."""
        return int(self.start[sum(part.earlier for part in self.parts)])

    def column(self, name: str) -> tuple[Ints, pa.ChunkedArray]:
        """(row numbers, values) of a measure, of the rows that are alive and have it."""
        numbers, found = [], []
        for number, values in self.each_column(name):
            valid = self.alive[number] & pc.is_valid(values).to_numpy(zero_copy_only=False)
            numbers.append(number[valid])
            found.append(values.filter(pa.array(valid)))
        if not found:
            return np.empty(0, np.int64), pa.chunked_array([], pa.null())
        return np.concatenate(numbers), pa.chunked_array([c for values in found for c in values.chunks], found[0].type)

    def each_column(self, name: str) -> Iterator[tuple[Ints, pa.ChunkedArray]]:
        """Part by part: row numbers and values of a measure. Parts without that measure are passed over."""
        for index, part in enumerate(self.parts):
            if name in pq.read_schema(part.measures).names:
                values = pq.read_table(part.measures, columns=[name])[name]
                yield np.arange(self.start[index], self.start[index + 1]), values

    def without(self, drops: Sequence[Ints]) -> "Rows":
        """The same rows, those dropped no longer alive."""
        alive = self.alive.copy()
        for rows in drops:
            alive[rows] = False
        return Rows(self.parts, alive)

    def ids(self, rows: Ints) -> pa.Array:
        """The sample ids of these rows."""
        found = pa.nulls(0, pa.string())
        order, chunks = np.argsort(rows, kind="stable"), []
        ordered = rows[order]
        for index, part in enumerate(self.parts):
            low, high = np.searchsorted(ordered, self.start[index : index + 2])
            if high > low:
                ids = pq.read_table(part.measures, columns=["id"])["id"].combine_chunks()
                chunks.append(ids.take(pa.array(ordered[low:high] - self.start[index])))
        found = pa.concat_arrays(chunks) if chunks else found
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return found.take(pa.array(back))
