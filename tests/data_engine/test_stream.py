"""The stream: exact resume, every sample once on any number of ranks, and faults that name themselves."""

import itertools
import json
import pickle
import shutil
from pathlib import Path

import pytest

from data_engine.stream import Stream, StreamError

SHARES = {"video": 0.24, "image": 0.50, "text": 0.26}


def manifest(run: Path) -> Path:
    return run / "shards" / "manifest.json"


def test_it_continues_exactly_where_it_was(small_run: Path) -> None:
    stream = Stream(manifest(small_run), seed=3)
    whole = [(item.epoch, item.position, item.sample.id) for _ in range(2) for item in stream]
    for stop in (0, 1, len(stream) - 1, len(stream) + 3):
        first = Stream(manifest(small_run), seed=3)
        endless = itertools.chain.from_iterable(iter(first) for _ in range(2))
        begun = [(i.epoch, i.position, i.sample.id) for i in itertools.islice(endless, stop)]
        state = json.loads(json.dumps(first.state_dict()))
        second = Stream(manifest(small_run), seed=3, state=state)
        rest = [(i.epoch, i.position, i.sample.id) for _ in range(2) for i in second]
        assert begun + rest[: len(whole) - stop] == whole
        assert len(json.dumps(state)) < 1024


def test_each_place_is_read_once_on_any_number_of_ranks(small_run: Path) -> None:
    alone = [item.position for item in Stream(manifest(small_run), seed=0)]
    for world in (2, 3):
        ranks = [[i.position for i in Stream(manifest(small_run), 0, rank=r, world_size=world)] for r in range(world)]
        assert sorted(itertools.chain(*ranks)) == alone


def test_a_state_saved_on_one_rank_continues_on_two(small_run: Path) -> None:
    first = Stream(manifest(small_run), seed=0)
    begun = [item.position for item in itertools.islice(first, 7)]
    state = first.state_dict()
    rest = [[i.position for i in Stream(manifest(small_run), 0, rank=r, world_size=2, state=state)] for r in range(2)]
    assert begun + sorted(itertools.chain(*rest)) == list(range(len(first)))


def test_its_tokens_keep_the_shares(small_run: Path) -> None:
    stream = Stream(manifest(small_run), seed=0)
    items = list(stream)
    total, largest = sum(item.tokens for item in items), max(item.tokens for item in items)
    for name, share in SHARES.items():
        mine = sum(item.tokens for item in items if item.sample.modality == name)
        assert abs(mine / total - share) <= largest / total


def test_seed_and_epoch_change_the_order(small_run: Path) -> None:
    orders = [Stream(manifest(small_run), seed, epoch).order.tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert orders[0] != orders[1] and orders[0] != orders[2] and len({len(order) for order in orders}) <= 3


def test_it_travels_to_a_worker_process(small_run: Path) -> None:
    stream = Stream(manifest(small_run), seed=0)
    first = next(iter(stream))
    again = pickle.loads(pickle.dumps(stream))
    again.load_state_dict({**stream.state_dict(), "position": 0})
    assert next(iter(again)) == first


def test_a_state_of_other_data_is_refused(small_run: Path) -> None:
    state = Stream(manifest(small_run), seed=0).state_dict()
    with pytest.raises(StreamError, match="differs in seed"):
        Stream(manifest(small_run), seed=1, state=state)
    with pytest.raises(StreamError, match="differs in data"):
        Stream(manifest(small_run), seed=0, state=state, mixture={"image": 0.5, "text": 0.5})


def test_faults_name_the_file(small_run: Path, tmp_path: Path) -> None:
    shutil.copytree(small_run / "shards", tmp_path / "shards")
    path = tmp_path / "shards/manifest.json"
    stream = Stream(path, seed=0)
    row = stream.index.slice(int(stream.order[5]), 1).to_pylist()[0]
    shard = tmp_path / "shards" / row["shard"]
    content = bytearray(shard.read_bytes())
    content[row["offset"] + row["size"] // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StreamError, match=rf"{shard.name}: sample {row['id']}: checksum wrong"):
        list(Stream(path, seed=0))
    shard.unlink()
    with pytest.raises(StreamError, match=f"{shard.name}: shard is missing"):
        list(Stream(path, seed=0))
    with pytest.raises(StreamError, match="no corpus 'easy_vqx'"):
        Stream(path, seed=0, corpora=["easy_vqx"])
    with pytest.raises(StreamError, match="no shards in split 'test'"):
        Stream(path, seed=0, split="test")
    with pytest.raises(StreamError, match="no manifest"):
        Stream(tmp_path / "nowhere.json", seed=0)
