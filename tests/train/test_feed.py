from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from data_engine.stream.reader import Stream
from model.processing import KeyeProcessor
from model.tokenizer import load_tokenizer
from model.visual_tokens import visual_budget
from train.feed.batches import Batch, Cursor, Feed, FeedError
from train.feed.conversation import encode

ROWS, CONTEXT = 2, 256


@pytest.fixture(scope="module")
def processor(shared_run: Path) -> KeyeProcessor:
    return KeyeProcessor(load_tokenizer(shared_run / "tokenizer" / "tiny"), visual_budget("tiny"))


def stream_of(run: Path, **selection: object) -> Stream:
    return Stream(run / "shards" / "manifest.json", 0, **selection)  # type: ignore[arg-type]


def take(feed: Feed, count: int, start: Cursor | None = None, workers: int = 0) -> list[Batch]:
    return list(islice(feed.batches(start or Cursor(), workers), count))


def same(a: Batch, b: Batch) -> bool:
    equal = [torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors]
    return a.tensors.keys() == b.tensors.keys() and all(equal) and (a.next, a.tokens) == (b.next, b.tokens)


def test_workers_change_nothing(shared_run: Path, processor: KeyeProcessor) -> None:
    here = take(Feed(stream_of(shared_run), processor, ROWS, CONTEXT), 6)
    there = take(Feed(stream_of(shared_run), processor, ROWS, CONTEXT), 6, workers=2)
    assert all(map(same, here, there))


def test_batches_go_on_from_any_cursor_into_the_next_epoch(shared_run: Path, processor: KeyeProcessor) -> None:
    count = len(list(islice(_epoch(shared_run, processor, 0), 99))) + 2
    whole = take(Feed(stream_of(shared_run), processor, ROWS, CONTEXT), count)
    assert whole[-1].next.epoch == 1
    for done in (1, 2, count - 2, count - 1):
        rest = take(Feed(stream_of(shared_run), processor, ROWS, CONTEXT), count - done, whole[done - 1].next)
        assert all(map(same, whole[done:], rest))


def _epoch(run: Path, processor: KeyeProcessor, epoch: int) -> "list[Batch]":
    feed = Feed(stream_of(run), processor, ROWS, CONTEXT)
    batches = []
    for batch in feed.batches(Cursor(epoch), 0):
        if batch.next.epoch != epoch:
            break
        batches.append(batch)
    return batches


def test_an_epoch_trains_every_place_once(shared_run: Path, processor: KeyeProcessor) -> None:
    """The ledger: what the packed rows hold are exactly the encoded samples of the stream's epoch."""
    expected = [encode(processor, item.sample.messages, item.media).input_ids for item in stream_of(shared_run)]
    found = []
    for batch in _epoch(shared_run, processor, 0):
        for ids, segments in zip(batch.tensors["input_ids"], batch.tensors["segment_ids"], strict=True):
            found += [ids[segments == number].numpy() for number in range(1, int(segments.max()) + 1)]
    assert sorted(map(bytes, found)) == sorted(map(bytes, expected))


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_one_batch(shared_run: Path, processor: KeyeProcessor, world_size: int) -> None:
    one = take(Feed(stream_of(shared_run), processor, 4, CONTEXT), 3)
    ranks = [take(Feed(stream_of(shared_run), processor, 4, CONTEXT, r, world_size), 3) for r in range(world_size)]
    for index, batch in enumerate(one):
        parts = [rank[index] for rank in ranks]
        rows = torch.stack([part.tensors["input_ids"] for part in parts], 1).flatten(0, 1)
        assert torch.equal(rows, batch.tensors["input_ids"])
        assert {part.next for part in parts} == {batch.next}


def test_rows_must_spread_over_ranks(shared_run: Path, processor: KeyeProcessor) -> None:
    with pytest.raises(FeedError, match="3 rows of 256 tokens do not spread over 2 ranks"):
        Feed(stream_of(shared_run), processor, 3, CONTEXT, 0, 2)


def test_too_long_samples_are_named_and_never_cut(shared_run: Path, processor: KeyeProcessor) -> None:
    stream = stream_of(shared_run)
    context = int(np.median(stream.pool.tokens))
    too_long = {str(stream.index["id"][i]) for i in stream.order if stream.pool.tokens[i] > context}
    feed = Feed(stream_of(shared_run), processor, 64, context)
    batches = []
    for batch in feed.batches(Cursor(), 0):
        if batch.next.epoch:
            break
        batches.append(batch)
    assert too_long
    assert {one for batch in batches for one in batch.too_long} == too_long
    assert sum(batch.num_samples for batch in batches) == len(stream) - len(too_long)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_count_that_disagrees_with_the_shards_names_the_sample(
    shared_run: Path, processor: KeyeProcessor, workers: int
) -> None:
    other = KeyeProcessor(processor.tokenizer, visual_budget("0.1b"))
    feed = Feed(stream_of(shared_run, mixture={"image": 1.0}), other, ROWS, CONTEXT)
    with pytest.raises(FeedError, match=r"^sample [0-9a-f]{24}: \d+ tokens here, \d+ in the shards") as caught:
        take(feed, 1, workers=workers)
    assert "\n" not in str(caught.value)
