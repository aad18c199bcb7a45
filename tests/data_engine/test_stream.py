"""The stream: exact resume, every sample once on any number of ranks and workers, and faults that name themselves."""

import dataclasses
import itertools
import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from data_engine import shard_index
from data_engine.shard_index import Source
from data_engine.stream import Stream, StreamError, StreamItem, ledger
from data_engine.stream.follow import audit, follow
from tests.data_engine.stream_ranks import killed

SHARES = {"video": 0.24, "image": 0.50, "text": 0.26}


def manifest(run: Path) -> Path:
    return run / "shards" / "manifest.json"


def identities(items: Iterator[StreamItem] | list[StreamItem]) -> list[tuple[int, int, str]]:
    return [(item.epoch, item.position, item.sample.id) for item in items]


@pytest.fixture(scope="module")
def sizes_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of 300,000 samples that have sizes but no bytes: enough for places."""
    folder = tmp_path_factory.mktemp("sizes")
    random = np.random.default_rng(0)
    counts = (50_000, 100_000, 150_000)
    logs = ((8.5, 1.0), (6.5, 1.0), (6.0, 1.2))
    tokens = np.concatenate([random.lognormal(*log, count) for log, count in zip(logs, counts, strict=True)])
    zeros = np.zeros(sum(counts), np.int64)
    columns = dict.fromkeys(shard_index.SCHEMA.names, zeros)
    columns |= {"tokens": np.minimum(tokens, 75_000).astype(np.int32) + 1, "source": np.repeat(np.arange(3), counts)}
    columns["id"] = [int(number).to_bytes(12, "big") for number in range(sum(counts))]
    sources = [Source(name, name) for name in SHARES]  # type: ignore[arg-type]
    shard_index.write(folder / "train.index.arrow", columns, sources, ["train-00000.tar"])
    told = {"splits": {"train": [{"file": "train-00000.tar"}]}, "mixture": {"shares": SHARES}}
    (folder / "manifest.json").write_text(json.dumps(told))
    return folder / "manifest.json"


def test_it_continues_exactly_where_it_was(small_run: Path) -> None:
    stream = Stream(manifest(small_run), seed=3)
    whole = [one for _ in range(2) for one in identities(list(stream))]
    for stop in (0, 1, len(stream) - 1, len(stream) + 3):
        first = Stream(manifest(small_run), seed=3)
        endless = itertools.chain.from_iterable(iter(first) for _ in range(2))
        begun = identities(itertools.islice(endless, stop))
        state = json.loads(json.dumps(first.state_dict()))
        second = Stream(manifest(small_run), seed=3, state=state)
        rest = [one for _ in range(2) for one in identities(list(second))]
        assert begun + rest[: len(whole) - stop] == whole
        assert len(json.dumps(state)) < 1024


@settings(max_examples=25, deadline=None)
@given(worlds=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 30)), min_size=1, max_size=4))
def test_each_place_once_on_any_number_of_ranks(small_run: Path, worlds: list[tuple[int, int]]) -> None:
    """Some rounds on so many ranks, then on so many, and the rest of the epoch on two."""
    state, seen = None, []
    length = len(Stream(manifest(small_run), seed=0))
    for world_size, rounds in [*worlds, (2, length)]:
        ranks = [Stream(manifest(small_run), 0, rank=r, world_size=world_size, state=state) for r in range(world_size)]
        if ranks[0].epoch == 1:
            break
        read = [list(itertools.islice(stream, rounds)) for stream in ranks]
        seen += [item.position for items in read for item in items]
        states = [stream.state_dict() for stream in ranks]
        assert all(state == states[0] for state in states)
        (state, *_) = states
    assert sorted(seen) == list(range(length))


def test_a_rank_goes_on_with_its_own_part(small_run: Path) -> None:
    """On as many ranks as before, every rank reads what it would have read without the stop."""
    for rank in range(3):
        whole = identities(list(Stream(manifest(small_run), 0, rank=rank, world_size=3)))
        first = Stream(manifest(small_run), 0, rank=rank, world_size=3)
        begun = identities(itertools.islice(first, 5))
        rest = Stream(manifest(small_run), 0, rank=rank, world_size=3, state=first.state_dict())
        assert begun + identities(list(rest)) == whole


@pytest.mark.parametrize("worlds", [(1, 4), (4, 1, 4), (8, 3), (2, 2, 2)])
def test_shares_hold_on_every_rank_after_kills(sizes_only: Path, worlds: tuple[int, ...]) -> None:
    """At every point past 10,000 samples of a rank: error <= max(0.01 points, its largest sample / its tokens)."""
    state, points = None, 0
    for world_size in worlds:
        stops = []
        for rank in range(world_size):
            stream = Stream(sizes_only, seed=1, rank=rank, world_size=world_size, state=state)
            places = np.fromiter((place.number for place in itertools.islice(stream.places(), 14_321)), np.int64)
            points += held(stream, places)
            stops.append(stream.since + len(places) * world_size)
        (position,) = set(stops)
        state = {**stream.state_dict(), "position": position}
    assert points >= 4000 * sum(worlds)


def held(stream: Stream, numbers: np.ndarray) -> int:
    """The number of points at which the bound was held."""
    mine = stream.index.tokens[numbers].astype(float)
    total, largest = np.cumsum(mine), np.maximum.accumulate(mine)
    bound = np.maximum(1e-4, largest / total)
    for name, share in enumerate(SHARES.values()):
        had = np.cumsum(np.where(stream.index.source[numbers] == name, mine, 0))
        assert (np.abs(had / total - share) <= bound)[10_000:].all()
    return len(bound[10_000:])


def test_its_tokens_keep_the_shares(small_run: Path) -> None:
    stream = Stream(manifest(small_run), seed=0)
    found = follow(stream, len(stream))
    total = found.tokens.total()
    for name, share in SHARES.items():
        mine = sum(tokens for (modality, _), tokens in found.tokens.items() if modality == name)
        assert abs(mine / total - share) <= found.largest / total


def test_seed_and_epoch_change_the_order(small_run: Path) -> None:
    settings = ((0, 0), (0, 1), (1, 0))
    orders = [Stream(manifest(small_run), seed, epoch).schedule.order().tolist() for seed, epoch in settings]
    assert orders[0] != orders[1] and orders[0] != orders[2]


@pytest.mark.parametrize("workers", [0, 2, 3])
def test_torchs_loader_resumes_from_the_last_batch_consumed(small_run: Path, workers: int) -> None:
    """Whatever its workers have prefetched, and though their number changes."""
    whole = [item.sample.id for item in Stream(manifest(small_run), seed=5)]
    stream = Stream(manifest(small_run), seed=5)
    begun = []
    for batch in itertools.islice(loader(stream, workers), 4):
        begun += batch
    state = json.loads(json.dumps(stream.state_dict(after=begun[-1])))
    assert len(json.dumps(state)) < 1024
    again = Stream(manifest(small_run), seed=5, state=state)
    rest = [item for batch in loader(again, (workers + 2) % 4) for item in batch]
    assert [item.sample.id for item in begun + rest] == whole
    assert again.state_dict(after=rest[-1])["epoch"] == 1


def loader(stream: Stream, workers: int) -> DataLoader:
    ahead = {"prefetch_factor": 3, "multiprocessing_context": "spawn"} if workers else {}
    return DataLoader(stream, batch_size=6, sampler=stream.places(), num_workers=workers, collate_fn=list, **ahead)


def test_it_travels_to_a_worker_process(small_run: Path) -> None:
    stream = Stream(manifest(small_run), seed=0)
    first = next(iter(stream))
    again = pickle.loads(pickle.dumps(stream))
    again.load_state_dict({**stream.state_dict(), "position": 0})
    assert next(iter(again)) == first


def test_killed_ranks_consume_every_sample_once(small_run: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle, other numbers of ranks after it, over the end of an epoch; the ledger proves it."""
    record, state = tmp_path / "ledger", None
    for world_size, samples in ((2, 9), (3, 40), (1, 30)):
        state = killed(manifest(small_run), world_size, state, record, samples)
        ledger.rewind(record, ledger.before(state["epoch"], state["position"]))
    stream = Stream(manifest(small_run), seed=0, state=state, record=record)
    last = [list(stream) for _ in range(2)]
    assert last[0][-1].position > last[0][0].position
    audits = audit(Stream(manifest(small_run), seed=0), record)
    assert [found.epoch for found in audits] == list(range(stream.epoch))
    assert all(found.exactly_once and not found.failed for found in audits)
    assert audits[0].places == len(Stream(manifest(small_run), seed=0))
    per_sample = sum(path.stat().st_size for path in record.iterdir()) / sum(found.places for found in audits)
    assert per_sample == ledger.RECORD.itemsize == 11


def test_an_audit_finds_what_is_wrong(small_run: Path, tmp_path: Path) -> None:
    list(Stream(manifest(small_run), seed=0, record=tmp_path))
    (path,) = tmp_path.iterdir()
    whole = np.frombuffer(path.read_bytes(), ledger.RECORD)
    stream = Stream(manifest(small_run), seed=0)
    wrong = whole.copy()
    wrong["number"][3], wrong["number"][4] = whole["number"][4] + 1, whole["number"][3] + 1
    for records, missing, twice, bad in ((whole[1:], 1, 0, 0), (np.append(whole, whole[5]), 0, 1, 0), (wrong, 0, 0, 2)):
        path.write_bytes(records.tobytes())
        (found,) = audit(stream, tmp_path)
        assert (found.missing, found.twice, found.wrong) == (missing, twice, bad) and not found.exactly_once
    path.write_bytes(whole.tobytes()[:-4])  # cut short by a kill: that sample is not on record
    (found,) = audit(stream, tmp_path)
    assert found.exactly_once and found.places == len(whole) - 1
    with pytest.raises(ValueError, match="no ledger"):
        audit(stream, tmp_path / "nowhere")


def test_a_state_of_other_data_is_refused(small_run: Path) -> None:
    state = Stream(manifest(small_run), seed=0).state_dict()
    with pytest.raises(StreamError, match="differs in seed"):
        Stream(manifest(small_run), seed=1, state=state)
    with pytest.raises(StreamError, match="differs in data"):
        Stream(manifest(small_run), seed=0, state=state, mixture={"image": 0.5, "text": 0.5})


@pytest.fixture
def damaged(small_run: Path, tmp_path: Path) -> tuple[Path, Stream, int]:
    """A copy of which one bit of the sample at place 5 is flipped: its manifest, and a whole stream."""
    shutil.copytree(small_run / "shards", tmp_path / "shards")
    stream = Stream(manifest(small_run), seed=0)
    number = int(stream.schedule.order()[5])
    shard = tmp_path / "shards" / stream.index.shards[stream.index.shard[number]]
    content = bytearray(shard.read_bytes())
    content[int(stream.index.offset[number] + stream.index.size[number] // 2)] ^= 1
    shard.write_bytes(content)
    return tmp_path / "shards/manifest.json", stream, number


def test_faults_name_the_file(damaged: tuple[Path, Stream, int]) -> None:
    path, stream, number = damaged
    shard = path.with_name(stream.index.shards[stream.index.shard[number]])
    with pytest.raises(StreamError, match=rf"{shard.name}: sample {stream.index.id(number)}: checksum wrong"):
        list(Stream(path, seed=0))
    shard.write_bytes(shard.read_bytes()[: int(stream.index.offset[number]) + 100])
    with pytest.raises(StreamError, match=rf"{shard.name}: sample .*: [\d,]+ bytes left of"):
        list(Stream(path, seed=0))
    shard.unlink()
    with pytest.raises(StreamError, match=f"{shard.name}: shard is missing"):
        list(Stream(path, seed=0))
    with pytest.raises(StreamError, match="no corpus 'easy_vqx'"):
        Stream(path, seed=0, corpora=["easy_vqx"])
    with pytest.raises(StreamError, match="no shards in split 'test'"):
        Stream(path, seed=0, split="test")
    with pytest.raises(StreamError, match="no manifest"):
        Stream(path.with_name("nowhere.json"), seed=0)


def test_a_few_faults_are_left_out_on_record(damaged: tuple[Path, Stream, int], tmp_path: Path) -> None:
    path, stream, number = damaged
    lenient = Stream(path, seed=0, max_failures=1, record=tmp_path / "ledger")
    found = identities(list(lenient))
    spoiled = np.flatnonzero(stream.schedule.order() == number).tolist()
    assert [failure.place.position for failure in lenient.failures] == spoiled
    assert {failure.id for failure in lenient.failures} == {stream.index.id(number)}
    assert "checksum wrong" in lenient.failures[0].reason
    assert found == [one for one in identities(list(stream)) if one[1] not in spoiled]
    (proof,) = audit(Stream(path, seed=0), tmp_path / "ledger")
    assert proof.exactly_once and proof.failed == len(spoiled)


def test_too_many_faults_in_a_row_end_it(damaged: tuple[Path, Stream, int]) -> None:
    path, stream, _ = damaged
    for name in stream.index.shards:
        path.with_name(name).unlink()
    lenient = Stream(path, seed=0, max_failures=3)
    with pytest.raises(StreamError, match=r"shard is missing.*\(4 samples in a row could not be read\)"):
        list(lenient)
    assert len(lenient.failures) == 3


def test_raw_bytes_come_in_the_same_order(small_run: Path) -> None:
    stream = Stream(manifest(small_run), seed=2, rank=1, world_size=2)
    items = list(Stream(manifest(small_run), seed=2, rank=1, world_size=2))
    raw = list(stream.raw())
    assert [place.position for place, _ in raw] == [item.position for item in items]
    assert all(item.sample.id.encode() in bytes(block) for (_, block), item in zip(raw, items, strict=True))


def test_repeats_and_corpora_narrow_the_pool(small_run: Path) -> None:
    stream = Stream(manifest(small_run), seed=0)
    corpora = sorted({source.corpus for source in stream.index.sources if source.modality == "text"})
    narrowed = Stream(manifest(small_run), seed=0, corpora=corpora, mixture={"text": 1.0})
    assert {item.sample.corpus for item in narrowed} == set(corpora)
    assert dataclasses.astuple(narrowed.pool.sources[0]) == dataclasses.astuple(stream.pool.sources[0])
