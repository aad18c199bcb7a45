"""Stream -> encode -> pack, in workers that run ahead of the step.

Every rank computes the same plan from token counts alone and reads only its own rows, so the state of a
run is the cursor of the last batch consumed, whatever was prefetched and on however many ranks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_engine.mixture import Order
from data_engine.stream.reader import Stream
from model.processing import Encoded, KeyeProcessor
from train.feed.conversation import encode
from train.feed.packing import Packed, plan_batches


class FeedError(ValueError):
    """A sample that cannot be trained on as the shards describe it: the message names it and the fix."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place after the last batch consumed."""

    epoch: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True)
class Planned:
    """A batch before it is read: its places, the pool indices there, and the cursor after it."""

    packed: Packed
    indices: dict[int, int]
    next: Cursor


@dataclass(frozen=True, slots=True)
class Batch:
    """This rank's rows as tensors (`KeyeProcessor.pack`), and what the whole batch over all ranks holds.

    `too_long` are ids of samples that no row can hold; they are part of the batch's places but not trained on.
    """

    tensors: dict[str, Tensor]
    num_samples: int
    tokens: int
    too_long: list[str]
    next: Cursor


class Feed(Dataset[Batch | FeedError]):
    """Batches of a stage, from any cursor on. An epoch's last batch is as short as the epoch leaves it.

    `rows` of `context` tokens make a batch over all ranks; rank r takes rows r, r + world_size, ...
    """

    def __init__(
        self, stream: Stream, processor: KeyeProcessor, rows: int, context: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if rows % world_size:
            raise FeedError(
                f"{rows} rows of {context} tokens do not spread over {world_size} ranks; change batch_tokens"
            )
        self.stream, self.processor = stream, processor
        self.rows, self.context = rows, context
        self.rank, self.world_size = rank, world_size

    def plan(self, start: Cursor) -> Iterator[Planned]:
        """Batches from `start` on, epoch after epoch, without end."""
        epoch, position = start.epoch, start.position
        while True:
            self.stream.epoch = epoch
            order, counts = self.stream.order, self.stream.pool.tokens
            places = ((place, int(counts[order[place]])) for place in range(position, len(order)))
            for packed in plan_batches(places, self.rows, self.context):
                yield _planned(packed, order, epoch)
            epoch, position = epoch + 1, 0

    def batches(self, start: Cursor, workers: int) -> Iterator[Batch]:
        """The same batches, read and encoded; `workers` processes prefetch (0: in this process).

        Raises FeedError for a sample that cannot be read or encoded.
        """
        prefetch = 4 if workers else None
        plan = _Once(self.plan(start))
        for batch in DataLoader(self, batch_size=None, sampler=plan, num_workers=workers, prefetch_factor=prefetch):
            if isinstance(batch, FeedError):
                raise batch
            yield batch

    def __getitem__(self, planned: Planned) -> Batch | FeedError:
        """The batch read and encoded; a fault is handed over, since DataLoader would wrap it in a traceback."""
        rows = planned.packed.rows[self.rank :: self.world_size]
        try:
            encoded = [[self._encode(planned.indices[place]) for place in row] for row in rows]
        except FeedError as error:
            return error
        return Batch(
            self.processor.pack(encoded, self.context),
            num_samples=sum(map(len, planned.packed.rows)),
            tokens=planned.packed.tokens,
            too_long=[self.stream.index["id"][planned.indices[place]].as_py() for place in planned.packed.too_long],
            next=planned.next,
        )

    def _encode(self, index: int) -> Encoded:
        item = self.stream.read(index)
        try:
            encoded = encode(self.processor, item.sample.messages, item.media)
        except ValueError as error:
            raise FeedError(f"sample {item.sample.id}: {error}") from error
        if len(encoded) != item.tokens:
            raise FeedError(
                f"sample {item.sample.id}: {len(encoded)} tokens here, {item.tokens} in the shards; "
                "write the shards with this stage's preset and tokenizer"
            )
        return encoded


class _Once:
    """An iterator as the sampler that DataLoader wants."""

    def __init__(self, planned: Iterator[Planned]) -> None:
        self.planned = planned

    def __iter__(self) -> Iterator[Planned]:
        return self.planned


def _planned(packed: Packed, order: Order, epoch: int) -> Planned:
    indices = {place: int(order[place]) for place in range(packed.start, packed.stop)}
    return Planned(packed, indices, Cursor(epoch, packed.stop))


def heldout_indices(stream: Stream, samples: int) -> list[int]:
    """The first `samples` different samples of the held-out stream's order."""
    order: list[int] = np.asarray(stream.order).tolist()
    return list(dict.fromkeys(order))[:samples]
