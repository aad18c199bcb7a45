"""Stream -> pack -> balance -> read -> encode, in I/O servers that run ahead of the step.

Every rank computes the same plan from the index alone and reads only its own rows, so the state of a run is the cursor
of the last batch consumed, whatever was prefetched and on however many ranks.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from data_engine.stream import ShardReader, Stream, StreamError, read_item
from data_engine.stream.io_server import ServerError, serve
from model.processing import Encoded, KeyeProcessor
from train.feed.balance import assign
from train.feed.conversation import encode
from train.feed.packing import Limits, Packer, State, sizes_of
from train.feed.shrink import Shown, Shrinker


class FeedError(ValueError):
    """A sample that cannot be trained on as the shards describe it: the message names it and the fix."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place after the last batch consumed: the packer's state (`packing.State`), its bitmap in base 64."""

    epoch: int = 0
    oldest: int = 0
    packed: str = ""

    @property
    def state(self) -> State:
        return State(self.oldest, base64.b64decode(self.packed))

    @classmethod
    def of(cls, epoch: int, state: State) -> "Cursor":
        return cls(epoch, state.oldest, base64.b64encode(state.packed).decode())

    def consumed(self, epochs: npt.NDArray[np.integer], places: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Which places (of these epochs) were in batches before: what a ledger keeps when a run goes on from here."""
        marks = np.unpackbits(np.frombuffer(self.state.packed, np.uint8), bitorder="little").astype(bool)
        ahead = places.astype(np.int64) - self.oldest
        marked = np.zeros(len(places), bool)
        within = (ahead >= 0) & (ahead < len(marks))
        marked[within] = marks[ahead[within]]
        return np.asarray((epochs < self.epoch) | ((epochs == self.epoch) & ((ahead < 0) | marked)))


class Piece(NamedTuple):
    """A sample in a row: its place, its number in the index, and the caps it is shown under, if any."""

    position: int
    number: int
    shown: Shown | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """A batch before it is read: the rows of each rank, what no row can hold, and the cursor after it."""

    epoch: int
    rows: tuple[tuple[tuple[Piece, ...], ...], ...]
    refused: tuple[Piece, ...]
    tokens: int
    next: Cursor


class Fault(NamedTuple):
    """A sample left out of its batch: its place, its id, and why it could not be read."""

    piece: Piece
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """This rank's rows as tensors (`KeyeProcessor.pack`), and what the whole batch over all ranks holds.

    `pieces`: this rank's samples, those of `faults` among them. `num_samples`, `tokens`: of all ranks. `refused`:
    samples that no row can hold, however small their pictures: part of the batch's places but not trained on.
    """

    tensors: dict[str, Tensor]
    epoch: int
    pieces: tuple[Piece, ...]
    faults: tuple[Fault, ...]
    num_samples: int
    tokens: int
    refused: tuple[Piece, ...]
    shrunk: int
    next: Cursor


class Feed:
    """Batches of a stage, from any cursor on. An epoch's last batch is as short as the epoch leaves it.

    `rows` rows within `limits` make a batch over all ranks; each rank gets as many of them as every other, such that
    their costs (`costs`: of each sample of the index, in any unit; default its tokens) are level.
    """

    def __init__(
        self,
        stream: Stream,
        processor: KeyeProcessor,
        rows: int,
        limits: Limits,
        rank: int = 0,
        world_size: int = 1,
        *,
        look_ahead: int = 4096,
        costs: npt.NDArray[np.floating] | None = None,
        max_failures: int = 0,
    ) -> None:
        if rows % world_size:
            raise FeedError(
                f"{rows} rows of {limits.tokens} tokens do not spread over {world_size} ranks; change batch_tokens"
            )
        self.stream, self.processor = stream, processor
        self.rows, self.limits, self.look_ahead = rows, limits, look_ahead
        self.rank, self.world_size = rank, world_size
        self.costs = stream.index.tokens if costs is None else costs
        self.max_failures = max_failures
        self.shrinker = Shrinker(stream.reader, processor.visual_budget, limits)

    def plan(self, start: Cursor) -> Iterator[Planned]:
        """Batches from `start` on, epoch after epoch, without end."""
        epoch, state = start.epoch, start.state
        while True:
            yield from self._epoch(epoch, state)
            epoch, state = epoch + 1, State()

    def _epoch(self, epoch: int, state: State) -> Iterator[Planned]:
        packer = Packer(self.limits, state, self.look_ahead)
        chunks = self.stream.schedule_of(epoch).chunks(state.oldest, 4 * self.look_ahead)
        pieces: dict[int, Piece] = {}
        ended = False
        rows: list[tuple[Piece, ...]] = []
        refused: list[Piece] = []
        tokens = 0
        while True:
            row = packer.row(last=ended) if len(rows) < self.rows else None
            if row is not None:
                refused += map(pieces.pop, row.too_long)
                rows += [tuple(map(pieces.pop, row.positions))] if row.positions else []
                tokens += row.tokens
            elif len(rows) == self.rows or ended:
                if rows or refused:
                    next_ = Cursor.of(epoch, packer.state)
                    yield Planned(epoch, self._dealt(rows), tuple(refused), tokens, next_)
                    rows, refused, tokens = [], [], 0
                elif ended:
                    return
            else:
                numbers = next(chunks, None)
                ended = numbers is None
                if numbers is not None:
                    packer.add(self._sizes(numbers, packer.wanted, pieces))

    def _sizes(self, numbers: npt.NDArray[np.int32], first: int, pieces: dict[int, Piece]) -> npt.NDArray[np.int64]:
        """Sizes of the samples at the places from `first` on, as they will be shown; notes who they are in `pieces`."""
        index = self.stream.index
        sizes = sizes_of(
            index.tokens[numbers], index.visual_tokens[numbers], index.pictures[numbers], self.shrinker.budget.merge
        )
        pieces.update((first + place, Piece(first + place, number)) for place, number in enumerate(numbers.tolist()))
        for place in np.flatnonzero(~self.limits.fit(sizes)).tolist():
            if shrunk := self.shrinker.shrink(int(numbers[place])):
                sizes[place] = sizes_of(
                    [shrunk.tokens], [shrunk.visual_tokens], [shrunk.pictures], self.shrinker.budget.merge
                )
                pieces[first + place] = pieces[first + place]._replace(shown=shrunk.shown)
        return sizes

    def _dealt(self, rows: Sequence[tuple[Piece, ...]]) -> tuple[tuple[tuple[Piece, ...], ...], ...]:
        """The rows of each rank, level in cost; empty ones where the epoch left too few."""
        whole = [*rows, *[()] * (self.rows - len(rows))]
        costs = np.array([float(self.costs[[piece.number for piece in row]].sum()) for row in whole])
        ranks = assign(costs, self.world_size, equal_counts=True)
        return tuple(tuple(whole[place] for place in np.flatnonzero(ranks == rank)) for rank in range(self.world_size))

    def batches(
        self, start: Cursor, servers: int, kind: Literal["process", "ray"] = "process", timeout: float = 120.0
    ) -> Iterator[Batch]:
        """The same batches, read and encoded, by `servers` other processes or Ray actors (0: in this process).

        Raises FeedError for a sample that cannot be read (more than `max_failures` of them in a row) or encoded, or
        that took a server more than `timeout` seconds.
        """
        maker = Maker(self.stream.reader, self.processor, self.limits.tokens, self.rank)
        streak = 0
        made = serve(maker, self.plan(start), servers=servers, kind=kind, timeout=timeout, describe=self._describe)
        try:
            for batch in made:
                streak = self._checked(batch, streak)
                yield batch
        except ServerError as error:
            raise FeedError(str(error)) from error

    def _checked(self, batch: Batch, streak: int) -> int:
        """How many samples in a row could not be read. Raises FeedError for too many."""
        reasons = {fault.piece.position: fault.reason for fault in batch.faults}
        for piece in batch.pieces:
            streak = streak + 1 if piece.position in reasons else 0
            if streak > self.max_failures:
                more = "" if streak == 1 else f" ({streak} samples in a row could not be read)"
                raise FeedError(reasons[piece.position] + more)
        return streak

    def _describe(self, planned: Planned) -> str:
        pieces = [piece for row in planned.rows[self.rank] for piece in row]
        index = self.stream.index
        names = [f"{index.id(piece.number)} in {index.shards[index.shard[piece.number]]}" for piece in pieces[:3]]
        return f"batch of {len(pieces)} samples ({', '.join(names)}, ...)"


@dataclass
class Maker:
    """Reads and encodes one rank's part of a batch: what an I/O server does."""

    reader: ShardReader
    processor: KeyeProcessor
    context: int
    rank: int

    def __call__(self, planned: Planned) -> Batch:
        faults: list[Fault] = []
        mine = planned.rows[self.rank]
        encoded = [[one for piece in row if (one := self._read(piece, faults)) is not None] for row in mine]
        every = [piece for rows in planned.rows for row in rows for piece in row]
        return Batch(
            self.processor.pack(encoded, self.context),
            epoch=planned.epoch,
            pieces=tuple(piece for row in mine for piece in row),
            faults=tuple(faults),
            num_samples=len(every),
            tokens=planned.tokens,
            refused=planned.refused,
            shrunk=sum(piece.shown is not None for piece in every),
            next=planned.next,
        )

    def _read(self, piece: Piece, faults: list[Fault]) -> Encoded | None:
        """The sample's arrays; None, with a fault, where its bytes cannot be read. Raises FeedError."""
        index = self.reader.index
        try:
            item = read_item(self.reader, piece.number)
        except StreamError as error:
            faults.append(Fault(piece, index.id(piece.number), str(error)))
            return None
        processor = self.processor if piece.shown is None else _under(self.processor, piece.shown)
        try:
            encoded = encode(processor, item.sample.messages, item.media)
        except ValueError as error:
            raise FeedError(f"sample {item.sample.id}: {error}") from error
        if piece.shown is None and len(encoded) != item.tokens:
            raise FeedError(
                f"sample {item.sample.id}: {len(encoded)} tokens here, {item.tokens} in the shards; "
                "write the shards with this stage's preset and tokenizer"
            )
        return encoded


def _under(processor: KeyeProcessor, shown: Shown) -> KeyeProcessor:
    """The processor with one sample's caps on its budget."""
    return KeyeProcessor(processor.tokenizer, shown.budget(processor.visual_budget))


def heldout_numbers(stream: Stream, samples: int) -> list[int]:
    """The first `samples` different samples of the held-out stream's order."""
    order: list[int] = stream.schedule.order().tolist()
    return list(dict.fromkeys(order))[:samples]
