"""Which samples a run has trained on: put on record as batches are consumed, and proved to be each once.

A stage's folder has `faults-<rank>.jsonl`, what could not be read and why, and where the stage keeps them, ledgers.
"""

import json
from itertools import compress
from pathlib import Path

import numpy as np

from data_engine.stream import Stream, ledger
from data_engine.stream.ledger import Audit, Ledger
from train import record
from train.feed.batches import Batch, Cursor


class Consumed:
    """One rank's records."""

    def __init__(self, folder: Path, rank: int, *, with_ledger: bool) -> None:
        self.folder, self.rank = folder, rank
        self.ledger = Ledger(folder / "ledger", rank) if with_ledger else None

    def note(self, batch: Batch) -> None:
        """Puts on record what this rank trained on, and what it had to leave out."""
        for fault in batch.faults:
            said = {"epoch": batch.epoch, "position": fault.piece.position, "id": fault.id, "reason": fault.reason}
            with (self.folder / f"faults-{self.rank}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(said) + "\n")
        if self.ledger is None:
            return
        failed = {fault.piece for fault in batch.faults}
        pieces = [(piece, piece in failed) for piece in batch.pieces]
        refused = [(piece, True) for piece in batch.refused if self.rank == 0]
        self.ledger.extend((batch.epoch, piece.position, piece.number, out) for piece, out in pieces + refused)


def rewind(folder: Path, cursor: Cursor) -> None:
    """Drops from all ranks' records what was consumed after `cursor`. One process does this, before any begins."""
    ledger.rewind(folder / "ledger", lambda found: cursor.consumed(found["epoch"], found["place"]))
    for path in folder.glob("faults-*.jsonl"):
        rows = record.read_rows(path)
        places = np.array([[row["epoch"], row["position"]] for row in rows], np.int64).reshape(-1, 2)
        record.write_rows(path, compress(rows, cursor.consumed(*places.T)))


def audit(folder: Path, stream: Stream, cursor: Cursor) -> list[Audit]:
    """Holds the ledgers of all ranks to what must have been consumed before `cursor`: one audit an epoch."""
    records = ledger.read(folder / "ledger")
    audits = []
    for epoch in range(cursor.epoch + 1):
        order = stream.schedule_of(epoch).order()
        due = cursor.consumed(np.full(len(order), epoch), np.arange(len(order)))
        audits.append(ledger.audit(records, epoch, order, due))
    return audits


def proof(audits: list[Audit]) -> dict[str, int | bool]:
    """All epochs together, for a summary."""
    counts = {
        name: sum(getattr(one, name) for one in audits) for name in ("places", "missing", "twice", "wrong", "failed")
    }
    return {**counts, "exactly_once": all(one.exactly_once for one in audits)}
