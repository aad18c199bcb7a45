"""The feed: the same batches from any cursor, on any number of ranks and servers, and nothing lost in silence."""

import shutil
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from data_engine.stream import Stream, read_item
from model.processing import KeyeProcessor
from model.tokenizer import load_tokenizer
from model.visual_tokens import visual_budget
from train.feed.batches import Batch, Cursor, Feed, FeedError
from train.feed.conversation import encode
from train.feed.packing import Limits

ROWS, CONTEXT = 2, 256
LIMITS = Limits(CONTEXT)


@pytest.fixture(scope="module")
def processor(shared_run: Path) -> KeyeProcessor:
    return KeyeProcessor(load_tokenizer(shared_run / "tokenizer" / "tiny"), visual_budget("tiny"))


def stream_of(run: Path, **selection: object) -> Stream:
    return Stream(run / "shards" / "manifest.json", 0, **selection)  # type: ignore[arg-type]


def take(feed: Feed, count: int, start: Cursor | None = None, servers: int = 0) -> list[Batch]:
    batches = feed.batches(start or Cursor(), servers)
    try:
        return list(islice(batches, count))
    finally:
        batches.close()  # type: ignore[attr-defined]


def same(a: Batch, b: Batch) -> bool:
    equal = [torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors]
    return a.tensors.keys() == b.tensors.keys() and all(equal) and (a.next, a.pieces) == (b.next, b.pieces)


def an_epoch(feed: Feed, epoch: int = 0) -> list[Batch]:
    batches = []
    for batch in feed.batches(Cursor(epoch), 0):
        if batch.epoch != epoch:
            break
        batches.append(batch)
    return batches


@pytest.mark.parametrize("servers", [1, 2, 3])
def test_servers_change_nothing(shared_run: Path, processor: KeyeProcessor, servers: int) -> None:
    here = take(Feed(stream_of(shared_run), processor, ROWS, LIMITS), 6)
    there = take(Feed(stream_of(shared_run), processor, ROWS, LIMITS), 6, servers=servers)
    assert all(map(same, here, there))


@pytest.mark.parametrize("look_ahead", [1, 7, 4096])
def test_batches_go_on_from_any_cursor_into_the_next_epoch(
    shared_run: Path, processor: KeyeProcessor, look_ahead: int
) -> None:
    def feed() -> Feed:
        return Feed(stream_of(shared_run), processor, ROWS, LIMITS, look_ahead=look_ahead)

    count = len(an_epoch(feed())) + 2
    whole = take(feed(), count)
    assert whole[-1].epoch == 1
    for done in (1, 2, count // 2, count - 2, count - 1):
        start = Cursor(**asdict(whole[done - 1].next))
        assert len(str(asdict(start))) < 1024
        rest = take(feed(), count - done, start)
        assert all(map(same, whole[done:], rest))


def test_an_epoch_trains_every_place_once(shared_run: Path, processor: KeyeProcessor) -> None:
    """What the packed rows hold are exactly the encoded samples of the stream's epoch."""
    expected = [encode(processor, item.sample.messages, item.media).input_ids for item in stream_of(shared_run)]
    found = []
    for batch in an_epoch(Feed(stream_of(shared_run), processor, ROWS, LIMITS)):
        for ids, segments in zip(batch.tensors["input_ids"], batch.tensors["segment_ids"], strict=True):
            found += [ids[segments == number].numpy() for number in range(1, int(segments.max()) + 1)]
    assert sorted(map(bytes, found)) == sorted(map(bytes, expected))


def test_each_document_starts_anew(shared_run: Path, processor: KeyeProcessor) -> None:
    """Positions restart with every sample of a row, and no sample is asked for its first token."""
    batch = take(Feed(stream_of(shared_run), processor, ROWS, LIMITS), 1)[0].tensors
    rows = zip(batch["segment_ids"], batch["position_ids"][0], batch["labels"], strict=True)
    for segments, positions, labels in rows:
        starts = torch.nonzero(torch.diff(segments, prepend=torch.zeros(1, dtype=torch.long)) > 0).flatten()
        assert len(starts) > 1
        assert (positions[starts] == 0).all()
        assert (labels[starts] == -100).all()


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_one_batch(shared_run: Path, processor: KeyeProcessor, world_size: int) -> None:
    one = take(Feed(stream_of(shared_run), processor, 4, LIMITS), 3)
    ranks = [take(Feed(stream_of(shared_run), processor, 4, LIMITS, r, world_size), 3) for r in range(world_size)]
    for index, batch in enumerate(one):
        parts = [rank[index] for rank in ranks]
        rows = torch.cat([part.tensors["input_ids"] for part in parts])
        assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, batch.tensors["input_ids"].tolist()))
        assert {part.next for part in parts} == {batch.next}
        assert sorted(piece for part in parts for piece in part.pieces) == sorted(batch.pieces)


def test_rows_must_spread_over_ranks(shared_run: Path, processor: KeyeProcessor) -> None:
    with pytest.raises(FeedError, match="3 rows of 256 tokens do not spread over 2 ranks"):
        Feed(stream_of(shared_run), processor, 3, LIMITS, 0, 2)


def test_what_is_too_long_shrinks_its_pictures_or_is_named(shared_run: Path, processor: KeyeProcessor) -> None:
    """Of words nothing can be spared: refused. A video that is too long is shown smaller, and whole."""
    stream = stream_of(shared_run)
    index = stream.index
    words = index.tokens - index.visual_tokens
    videos = np.flatnonzero([index.sources[s].modality == "video" for s in index.source])
    context = int(index.tokens[videos].min()) - 1
    order = stream.schedule.order()
    batches = an_epoch(Feed(stream, processor, 64, Limits(context)))
    refused = {piece.number for batch in batches for piece in batch.refused}
    assert refused == {int(n) for n in order if words[n] > context}
    shrunk = [piece for batch in batches for piece in batch.pieces if piece.shown]
    assert {piece.number for piece in shrunk} == set(videos.tolist()) & set(order.tolist())
    assert sum(batch.num_samples + len(batch.refused) for batch in batches) == len(order)
    item = read_item(stream.reader, shrunk[0].number)
    smaller = KeyeProcessor(processor.tokenizer, shrunk[0].shown.budget(processor.visual_budget))  # type: ignore[union-attr]
    encoded = encode(smaller, item.sample.messages, item.media)
    assert len(encoded) <= context
    assert len(encoded.grid_thw) == index.pictures[shrunk[0].number]


@pytest.mark.parametrize("limits", [Limits(CONTEXT, pictures=5), Limits(CONTEXT, patches=48)])
def test_rows_keep_every_limit(shared_run: Path, processor: KeyeProcessor, limits: Limits) -> None:
    index = stream_of(shared_run).index
    for planned in islice(Feed(stream_of(shared_run), processor, ROWS, limits).plan(Cursor()), 20):
        for row in planned.rows[0]:
            whole = [piece.number for piece in row if piece.shown is None]
            assert limits.pictures is None or sum(index.pictures[[p.number for p in row]]) <= limits.pictures
            assert limits.patches is None or 4 * sum(index.visual_tokens[whole]) <= limits.patches


@pytest.mark.parametrize("servers", [0, 1])
def test_a_count_that_disagrees_with_the_shards_names_the_sample(
    shared_run: Path, processor: KeyeProcessor, servers: int
) -> None:
    other = KeyeProcessor(processor.tokenizer, visual_budget("0.1b"))
    feed = Feed(stream_of(shared_run, mixture={"image": 1.0}), other, ROWS, LIMITS)
    with pytest.raises(FeedError, match=r"^sample [0-9a-f]{24}: \d+ tokens here, \d+ in the shards") as caught:
        take(feed, 1, servers=servers)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("servers", [0, 2])
def test_unreadable_samples_are_left_out_on_record_up_to_a_limit(
    shared_run: Path, processor: KeyeProcessor, tmp_path: Path, servers: int
) -> None:
    shutil.copytree(shared_run / "shards", tmp_path / "shards")
    stream = stream_of(tmp_path)
    order, index = stream.schedule.order(), stream.index
    spoilt = {int(order[place]) for place in (2, 3, 9)}
    for number in spoilt:
        shard = tmp_path / "shards" / index.shards[index.shard[number]]
        content = bytearray(shard.read_bytes())
        content[int(index.offset[number]) + 700] ^= 1
        shard.write_bytes(content)
    with pytest.raises(FeedError, match=r"train-00000.tar: sample [0-9a-f]{24}: checksum wrong"):
        take(Feed(stream_of(tmp_path), processor, ROWS, LIMITS), 9)
    batches = take(Feed(stream_of(tmp_path), processor, ROWS, LIMITS, max_failures=2), 6, servers=servers)
    whole = take(Feed(stream_of(shared_run), processor, ROWS, LIMITS), 6)
    assert [batch.pieces for batch in batches] == [batch.pieces for batch in whole]
    assert {fault.piece.number for batch in batches for fault in batch.faults} == spoilt
    assert all("checksum wrong" in fault.reason for batch in batches for fault in batch.faults)


def test_a_cursor_tells_what_was_consumed(shared_run: Path, processor: KeyeProcessor) -> None:
    feed = Feed(stream_of(shared_run), processor, ROWS, LIMITS)
    done = take(feed, 5)
    places = np.arange(len(feed.stream.schedule))
    consumed = done[-1].next.consumed(np.zeros(len(places), int), places)
    assert sorted(np.flatnonzero(consumed)) == sorted(p.position for batch in done for p in batch.pieces)
    assert done[-1].next.consumed(np.ones(3, int), places[:3]).sum() == 0
