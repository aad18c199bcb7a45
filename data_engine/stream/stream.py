"""The stream: shards read in mixed order from any place, on any number of ranks.

Which sample comes at which place is computed, not remembered, so the whole state is a few integers.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from data_engine import repeats
from data_engine.mixture import Pool, Schedule
from data_engine.recipe import Mixture
from data_engine.shard_index import Index
from data_engine.stream import ledger
from data_engine.stream.deal import Deal
from data_engine.stream.items import StreamItem, read_item
from data_engine.stream.shard_reader import ShardReader, StreamError, read_manifest

CHUNK = 65_536  # places computed at once


class Place(NamedTuple):
    """A place of an epoch, and the number of the sample there."""

    epoch: int
    position: int
    number: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A place left out, and why its sample could not be read."""

    place: Place
    id: str
    reason: str


class Stream:
    """Iterates the samples of one epoch for one rank; iterating again goes on with the next epoch.

    `mixture` (all of it, or shares by modality) defaults to the manifest's; `corpora` narrows the pool to those named.
    Every `world_size` places are one round, of which each rank reads one (see `deal`).

    Raises StreamError for a missing shard or a wrong checksum; with `max_failures`, only for more of them in a row: the
    others are left out and kept in `failures`. `record` is a folder for the ledger of what was handed out.

    For torch's DataLoader the stream is a dataset and `places()` its sampler: `DataLoader(stream, batch_size=8,
    sampler=stream.places(), num_workers=3, collate_fn=list)`. Whatever was prefetched, the state after a batch is
    `stream.state_dict(batch[-1])`.
    """

    def __init__(
        self,
        manifest: Path | str,
        seed: int,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        state: Mapping[str, int] | None = None,
        *,
        mixture: Mixture | Mapping[str, float] | None = None,
        corpora: Sequence[str] | None = None,
        split: str = "train",
        max_failures: int = 0,
        record: Path | None = None,
    ) -> None:
        self.manifest = read_manifest(str(manifest))
        folder = str(manifest).rpartition("/")[0] or "."
        if not self.manifest["splits"].get(split):
            raise StreamError(f"{manifest}: no shards in split {split!r}")
        self.reader = ShardReader(folder, split)
        self.seed, self.epoch, self.rank, self.world_size = seed, epoch, rank, world_size
        self.mixture = _mixture(mixture, self.manifest)
        self.corpora = None if corpora is None else sorted(corpora)
        self.pool = _pool(self.index, self.corpora, self.mixture.repeats, folder, split)
        self.position = self.since = 0
        self.max_failures, self.failures = max_failures, list[Failure]()
        self._schedule: tuple[int, Schedule] | None = None
        self._record = record
        self._ledger: ledger.Ledger | None = None
        if state is not None:
            self.load_state_dict(state)

    @property
    def index(self) -> Index:
        return self.reader.index

    @property
    def schedule(self) -> Schedule:
        """The order of the current epoch."""
        return self.schedule_of(self.epoch)

    def schedule_of(self, epoch: int) -> Schedule:
        """The order of an epoch; the last one asked for is kept."""
        if self._schedule is None or self._schedule[0] != epoch:
            self._schedule = epoch, Schedule(self.pool, self.mixture, seed=self.seed, epoch=epoch)
        return self._schedule[1]

    def __len__(self) -> int:
        """Places in the current epoch, all ranks together."""
        return len(self.schedule)

    def __iter__(self) -> Iterator[StreamItem]:
        streak = 0
        for place in self.places():
            self.position = self._after(place.position)
            try:
                item = self[place]
            except StreamError as error:
                streak += 1
                self._left_out(place, str(error), streak)
                continue
            streak = 0
            self._note(place)
            yield item
        self.epoch, self.position, self.since = self.epoch + 1, 0, 0

    def places(self) -> Iterator[Place]:
        """This rank's places from the current one to the end of the epoch; nothing is read."""
        epoch = self.epoch
        for positions, numbers in self._chunks():
            yield from map(Place, [epoch] * len(positions), positions.tolist(), numbers.tolist())

    def _chunks(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]]:
        """Positions and samples' numbers of this rank's places, many at once."""
        if self.world_size == 1:
            position = self.position
            for numbers in self.schedule.chunks(position, CHUNK):
                yield np.arange(position, position + len(numbers)), numbers
                position += len(numbers)
            return
        names = sorted({source.modality for source in self.pool.sources})
        modality = np.array([names.index(source.modality) for source in self.pool.sources])
        deal = Deal(len(names), self.world_size)
        position = self.since
        for numbers in self.schedule.chunks(position, self.world_size * -(-CHUNK // self.world_size)):
            dealt = deal.ranks(modality[self.pool.source[numbers]], self.pool.tokens[numbers])
            mine = np.flatnonzero(dealt == self.rank)
            mine = mine[mine + position >= self.position]
            yield mine + position, numbers[mine]
            position += len(numbers)

    def raw(self) -> Iterator[tuple[Place, memoryview]]:
        """The same places with each sample's bytes, checked but not taken apart (see `shards.media_views`)."""
        epoch = self.epoch
        for positions, numbers in self._chunks():
            blocks = self.reader.blocks(numbers)
            yield from zip(
                map(Place, [epoch] * len(positions), positions.tolist(), numbers.tolist()), blocks, strict=True
            )

    def __getitem__(self, place: Place) -> StreamItem:
        """The sample at a place, its bytes checked against the index. Raises StreamError."""
        return self.read(place.number, place.position, place.epoch)

    def read(self, number: int, position: int = -1, epoch: int = 0) -> StreamItem:
        """A sample by its number in the index. Raises StreamError."""
        return read_item(self.reader, number, position, epoch)

    def state_dict(self, after: StreamItem | None = None) -> dict[str, int]:
        """Where the stream is: after the last item it handed out, or after `after`, the last one that was consumed."""
        epoch, position, since = self.epoch, self.position, self.since
        if after is not None:
            epoch, position = after.epoch, self._after(after.position)
        if position >= len(self):
            epoch, position, since = epoch + 1, 0, 0
        place = {"epoch": epoch, "position": position, "since": since, "world_size": self.world_size}
        return {**self.identity(), **place}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continues at `state`, on any number of ranks. Raises StreamError if it belongs to other data.

        On as many ranks as before each goes on with its own; on others the places left are dealt anew.
        """
        self.require(state)
        self.epoch, self.position = state["epoch"], state["position"]
        self.since = state["since"] if state["world_size"] == self.world_size else self.position

    def require(self, state: Mapping[str, int]) -> None:
        """Raises StreamError for a state that was not saved of this order."""
        differing = [name for name, value in self.identity().items() if state.get(name) != value]
        if differing:
            raise StreamError(
                f"{self.reader.folder}: the saved stream state differs in {', '.join(differing)}: "
                "same shards, mixture and seed are needed to continue"
            )

    def _after(self, position: int) -> int:
        """The place at which all ranks stand when each has consumed its part of the round of `position`."""
        return min(position - (position - self.since) % self.world_size + self.world_size, len(self))

    def identity(self) -> dict[str, int]:
        """What the order is a function of: seed, number of samples, and a checksum of all the rest."""
        mixture = self.mixture.model_dump(exclude={"repeats", "seed"})
        counts = None if self.pool.repeats is None else xxhash.xxh3_64_intdigest(self.pool.repeats.tobytes())
        chosen = json.dumps([mixture, counts, self.corpora, self.index.digest], sort_keys=True)
        return {"seed": self.seed, "samples": len(self.index), "data": xxhash.xxh3_64_intdigest(chosen.encode())}

    def _left_out(self, place: Place, reason: str, streak: int) -> None:
        if streak > self.max_failures:
            raise StreamError(reason if streak == 1 else f"{reason} ({streak} samples in a row could not be read)")
        self.failures.append(Failure(place, self.index.id(place.number), reason))
        self._note(place, failed=True)

    def _note(self, place: Place, *, failed: bool = False) -> None:
        if self._record is not None:
            self._ledger = self._ledger or ledger.Ledger(self._record, self.rank)
            self._ledger.add(*place, failed=failed)


def _mixture(given: Mixture | Mapping[str, float] | None, manifest: Mapping[str, Any]) -> Mixture:
    if isinstance(given, Mixture):
        return given
    return Mixture.model_validate(manifest["mixture"] if given is None else {"shares": dict(given)})


def _pool(index: Index, corpora: Sequence[str] | None, table: str | None, folder: str, split: str) -> Pool:
    """The samples to mix: each as often as the table of repeats says, those of other corpora than `corpora` 0 times.

    Raises StreamError for an unknown corpus, or a table that does not belong here.
    """
    counts = None
    if table is not None:
        where = table if "://" in table or Path(table).is_absolute() else f"{folder}/{table}"
        try:
            counts = repeats.of_samples(repeats.read(where), index.binary_ids, where)
        except ValueError as error:
            raise StreamError(str(error)) from error
    if corpora is None:
        return Pool(index.sources, index.source, index.tokens, counts)
    known = {source.corpus for source in index.sources}
    if unknown := sorted(set(corpora) - known):
        raise StreamError(f"{folder}: no corpus {unknown[0]!r} in split {split!r}; there are: {sorted(known)}")
    chosen = np.array([source.corpus in corpora for source in index.sources])[index.source].astype(np.uint8)
    return Pool(index.sources, index.source, index.tokens, chosen if counts is None else chosen * counts)
