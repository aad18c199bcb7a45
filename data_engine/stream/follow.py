"""Reads a stream for a while and tells what it saw; holds a ledger against the order it should follow."""

import time
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from data_engine.stream import ledger
from data_engine.stream.ledger import Audit
from data_engine.stream.stream import Stream


@dataclass(frozen=True, slots=True)
class Followed:
    """What some samples of a stream came to. `tokens`, `samples`: by (modality, corpus)."""

    samples: Counter[tuple[str, str]]
    tokens: Counter[tuple[str, str]]
    largest: int
    seconds: float


def follow(stream: Stream, count: int) -> Followed:
    """Reads the next `count` samples, over the ends of epochs."""
    samples, tokens = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    largest, left, began = 0, count, time.perf_counter()
    passes = 0  # without a sample: one at the very end of an epoch, two where there is none for this rank
    while left and passes < 2:
        passes += 1
        for item in islice(stream, left):
            source = item.sample.modality, item.sample.corpus
            samples[source] += 1
            tokens[source] += item.tokens
            largest, left, passes = max(largest, item.tokens), left - 1, 0
    return Followed(samples, tokens, largest, time.perf_counter() - began)


def audit(stream: Stream, folder: Path) -> list[Audit]:
    """One audit for each epoch on record: all but the last must be whole. Raises ValueError for an empty ledger."""
    records = ledger.read(folder)
    if not len(records):
        raise ValueError(f"{folder}: no ledger (*.ledger) with a record")
    epochs = sorted({int(epoch) for epoch in records["epoch"]})
    audits = []
    for epoch in epochs:
        order = stream.schedule_of(epoch).order()
        last = int(records["place"][records["epoch"] == epoch].max()) if epoch == epochs[-1] else len(order)
        audits.append(ledger.audit(records, epoch, order, np.arange(len(order)) <= last))
    return audits
