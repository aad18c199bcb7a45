"""Who fetches and who receives: plain arithmetic against torch's mesh, and real processes over gloo."""

import os
import subprocess
import sys
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train import layout_process
from tests.train.layout_process import BATCHES, CPU, open_feed
from train.feed.batches import Batch, Cursor
from train.feed.topology import FIRST_STAGE, Layout, deliver, open_route

ROOT = Path(__file__).parents[2]
LAYOUTS = {
    2: ["2,1,1,1", "1,2,1,1", "1,1,2,1", "1,1,1,2"],
    4: ["4,1,1,1", "2,1,1,2", "2,2,1,1", "1,2,2,1", "1,1,2,2", "2,1,2,1"],
}


@pytest.mark.parametrize("axes", product([1, 2, 3], repeat=4))
def test_each_process_has_one_place(axes: tuple[int, ...]) -> None:
    """By brute force: an array of all ranks, pipeline first and tensor last."""
    layout = Layout(*axes)
    ranks = np.arange(layout.world_size).reshape(layout.pipeline, layout.data, layout.context, layout.tensor)
    for pipeline, data, context, tensor in np.ndindex(ranks.shape):
        found = layout.coordinates(int(ranks[pipeline, data, context, tensor]))
        assert tuple(found) == (data, pipeline, context, tensor)
        assert found.fetches == (ranks[pipeline, data, context, tensor] == ranks[:, data].min())
    for data in range(layout.data):
        assert layout.replica(data) == tuple(ranks[:, data].ravel())
        assert layout.first_stage(data) == tuple(ranks[0, data].ravel())


def test_an_axis_has_a_process() -> None:
    with pytest.raises(ValueError, match="the context axis has 0 processes"):
        Layout(2, context=0)


def test_data_parallel_ranks_alone_need_no_route() -> None:
    """Batches go on as they are: no group is opened and nothing is sent."""
    batches = iter(list[Batch]())
    assert open_route(Layout(4), 3, CPU) is None
    assert deliver(batches, None) is batches


@pytest.fixture(scope="module", params=LAYOUTS)
def launched(request: pytest.FixtureRequest, shared_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What each process of each layout kept: {layout: [of rank 0, of rank 1, ...]}."""
    out, bare = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("bare")
    (bare / "tokenizer").symlink_to(shared_run / "tokenizer")
    (bare / "shards").mkdir()
    for path in (shared_run / "shards").iterdir():
        if path.suffix != ".tar":
            (bare / "shards" / path.name).symlink_to(path)
    count, layouts = request.param, LAYOUTS[request.param]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    clean = {k: v for k, v in os.environ.items() if k not in {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"}}
    done = subprocess.run(
        [sys.executable, *torchrun, "-m", layout_process.__name__, *map(str, (out, shared_run, bare)), *layouts],
        env=clean | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {
        name: [torch.load(out / f"{name}-{rank}.pt", weights_only=False) for rank in range(count)] for name in layouts
    }


def same(tensors: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    """Bit for bit, and no tensor more."""
    equal = (tensors[name].dtype == others[name].dtype for name in tensors)
    return tensors.keys() == others.keys() and all(equal) and all(torch.equal(tensors[k], others[k]) for k in tensors)


def parts(batch: Batch) -> list[bytes]:
    """Rows of tokens, labels and positions, and pictures' patches, in no order."""
    held = batch.tensors
    rows = zip(held["input_ids"], held["labels"], held["position_ids"].unbind(1), strict=True)
    found = [row.numpy().tobytes() for three in rows for row in three]
    return sorted(found + [patch.numpy().tobytes() for patch in held.get("pixel_values", ())])


def test_places_are_those_of_torchs_mesh(launched: dict[str, Any]) -> None:
    for name, kept in launched.items():
        layout = Layout(*map(int, name.split(",")))
        assert [one["mesh"] for one in kept] == [layout.coordinates(rank) for rank in range(layout.world_size)]


def test_processes_of_a_replica_hold_the_same_rows(launched: dict[str, Any], shared_run: Path) -> None:
    """Those that do not fetch had no shards to read from; each rank holds what its own feed would give it."""
    pictures = set[bool]()
    for name, kept in launched.items():
        layout = Layout(*map(int, name.split(",")))
        for data in range(layout.data):
            expected = list(islice(open_feed(shared_run, data, layout.data).batches(Cursor(), 0), BATCHES))
            pictures |= {"pixel_values" in batch.tensors for batch in expected}
            for rank in layout.replica(data):
                mine = layout.coordinates(rank)
                assert len(kept[rank]["batches"]) == BATCHES
                for batch, whole in zip(kept[rank]["batches"], expected, strict=True):
                    wanted = {k: v for k, v in whole.tensors.items() if not mine.pipeline or k not in FIRST_STAGE}
                    assert same(batch.tensors, wanted), (name, rank)
                    assert batch.pieces == (whole.pieces if mine.fetches else ())
                    told = [(b.epoch, b.num_samples, b.tokens, b.refused, b.shrunk, b.next) for b in (batch, whole)]
                    assert told[0] == told[1]
    assert pictures == {True, False}


def test_the_ranks_together_hold_the_batch_of_one_process(launched: dict[str, Any], shared_run: Path) -> None:
    whole = list(islice(open_feed(shared_run).batches(Cursor(), 0), BATCHES))
    for name, kept in launched.items():
        layout = Layout(*map(int, name.split(",")))
        first = [kept[layout.replica(data)[0]]["batches"] for data in range(layout.data)]
        for number, batch in enumerate(whole):
            assert sorted(part for batches in first for part in parts(batches[number])) == parts(batch), name
            pieces = [piece for batches in kept for piece in batches["batches"][number].pieces]
            assert sorted(pieces) == sorted(batch.pieces)


def test_only_who_fetches_has_servers(launched: dict[str, Any]) -> None:
    for name, kept in launched.items():
        layout = Layout(*map(int, name.split(",")))
        for rank, one in enumerate(kept):
            served = layout.tensor > 1 and layout.coordinates(rank).fetches
            assert one["started"] == int(served), (name, rank)


def test_all_hear_of_an_error_and_of_the_end(launched: dict[str, Any]) -> None:
    for name, kept in launched.items():
        layout = Layout(*map(int, name.split(",")))
        if layout.data == layout.world_size:
            continue
        assert [one["ended"] for one in kept] == [2] * layout.world_size
        for rank, one in enumerate(kept):
            assert one["refused"].startswith("FeedError: ") and "shard is missing" in one["refused"]
            assert one["refused"] == kept[layout.replica(layout.coordinates(rank).data)[0]]["refused"]
