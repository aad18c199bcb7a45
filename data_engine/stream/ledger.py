"""The ledger: which sample was handed out at which place, 11 bytes each, and the proof that each came exactly once."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

RECORD = np.dtype([("epoch", "<u2"), ("place", "<u4"), ("number", "<u4"), ("failed", "u1")])
Records = npt.NDArray[np.void]


class Ledger:
    """One rank's file of a folder, appended to as samples are consumed."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"rank-{rank:05d}.ledger"
        self._file = self.path.open("ab", buffering=0)  # what is consumed is on record, whatever kills the process

    def add(self, epoch: int, place: int, number: int, *, failed: bool = False) -> None:
        """Notes the sample `number` at `place`; `failed`: it could not be read and was left out."""
        self.extend([(epoch, place, number, failed)])

    def extend(self, records: Iterable[tuple[int, int, int, bool]]) -> None:
        """Notes samples (epoch, place, number, failed), all with one write."""
        self._file.write(np.array(list(records), RECORD).tobytes())

    def close(self) -> None:
        self._file.close()


def read(folder: Path) -> Records:
    """All ranks' records. A record cut short by a kill is none."""
    return np.concatenate([np.zeros(0, RECORD), *(_read(path) for path in sorted(folder.glob("*.ledger")))])


def _read(path: Path) -> Records:
    content = path.read_bytes()
    return np.frombuffer(content[: len(content) - len(content) % RECORD.itemsize], RECORD)


def rewind(folder: Path, keep: Callable[[Records], npt.NDArray[np.bool_]]) -> None:
    """Drops, of all ranks, what was consumed after the state that a run goes on from: it will be consumed again.

    `keep(records)` says of each record whether it was before. One process does this, before any begins.
    """
    for path in folder.glob("*.ledger"):
        records = _read(path)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(records[keep(records)].tobytes())
        fresh.replace(path)


def before(epoch: int, position: int) -> Callable[[Records], npt.NDArray[np.bool_]]:
    """`keep` for a run that goes on at `position`."""
    return lambda found: (found["epoch"] < epoch) | ((found["epoch"] == epoch) & (found["place"] < position))


@dataclass(frozen=True, slots=True)
class Audit:
    """What a ledger tells of the places of one epoch that were due.

    `missing`: places without a record. `twice`: records beyond the first of a place. `wrong`: records of another
    sample than the order has there, or of a place that was not due. `failed`: places left out because they could not
    be read.
    """

    epoch: int
    places: int
    missing: int
    twice: int
    wrong: int
    failed: int

    @property
    def exactly_once(self) -> bool:
        """Whether every place was handed out once, with the right sample, or is on record as unreadable."""
        return not (self.missing or self.twice or self.wrong)


def audit(records: Records, epoch: int, order: npt.NDArray[np.int32], due: npt.NDArray[np.bool_]) -> Audit:
    """Holds an epoch's records against its order; `due`: whether a place must be on record, for each of `order`."""
    mine = records[records["epoch"] == epoch]
    known = mine[mine["place"] < len(order)]
    place = known["place"].astype(np.int64)
    right = due[place] & (order[place] == known["number"])
    seen = np.bincount(place, minlength=len(order))
    return Audit(
        epoch=epoch,
        places=int(due.sum()),
        missing=int((due & (seen == 0)).sum()),
        twice=int(np.maximum(seen - 1, 0).sum()),
        wrong=len(mine) - int(right.sum()),
        failed=int(mine["failed"].sum()),
    )
