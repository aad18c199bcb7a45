"""I/O servers of the feed: the same batches and the same cursors, whoever makes them and whoever is killed."""

import os
import shutil
import signal
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest

from data_engine.stream import Stream
from model.processing import KeyeProcessor
from model.tokenizer import load_tokenizer
from model.visual_tokens import visual_budget
from tests.train.test_feed import same
from train.feed.batches import Batch, Cursor, Feed, FeedError
from train.feed.packing import Limits

BATCHES = 8


def open_feed(run: Path) -> Feed:
    processor = KeyeProcessor(load_tokenizer(run / "tokenizer" / "tiny"), visual_budget("tiny"))
    return Feed(Stream(run / "shards" / "manifest.json", 0), processor, 2, Limits(256))


@pytest.fixture
def feed(shared_run: Path) -> Feed:
    return open_feed(shared_run)


@pytest.fixture
def alone(feed: Feed) -> list[Batch]:
    """The batches without servers."""
    return list(islice(feed.batches(Cursor(), 0), BATCHES))


def test_ray_actors_change_nothing(feed: Feed, alone: list[Batch], ray: Any) -> None:
    found = list(islice(feed.batches(Cursor(), 2, "ray"), BATCHES))
    assert all(map(same, found, alone))


def test_servers_that_are_killed_change_nothing(feed: Feed, alone: list[Batch]) -> None:
    """Before each batch another one is shot, at whatever it is; each is a child of the one process that forks them."""
    batches = feed.batches(Cursor(), 2)
    found, shot = [next(batches)], set()
    for _ in range(BATCHES - 1):
        (nursery,) = (child for child in psutil.Process().children() if "nursery()" in " ".join(child.cmdline()))
        for server in nursery.children()[:1]:
            os.kill(server.pid, signal.SIGKILL)
            shot.add(server.pid)
        found.append(next(batches))
    assert all(map(same, found, alone))
    assert len(shot) > 2


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0), (1, 3)])
def test_a_run_goes_on_with_other_servers(feed: Feed, alone: list[Batch], before: int, after: int) -> None:
    """From the cursor of the last batch consumed, whatever had been made ahead of it."""
    begun = list(islice(feed.batches(Cursor(), before), 3))
    rest = list(islice(feed.batches(Cursor(**asdict(begun[-1].next)), after), BATCHES - 3))
    assert all(map(same, begun + rest, alone))


def test_a_hung_disk_is_named(shared_run: Path, tmp_path: Path) -> None:
    """A shard that blocks whoever opens it, here a FIFO that nobody writes to."""
    shutil.copytree(shared_run, tmp_path / "run")
    shard = tmp_path / "run/shards/train-00000.tar"
    shard.unlink()
    os.mkfifo(shard)
    batches = open_feed(tmp_path / "run").batches(Cursor(), 2, timeout=1)
    with pytest.raises(
        FeedError, match=r"^batch of \d+ samples \(\w+ in train-00000.tar, .*gave no answer in 1 seconds$"
    ):
        next(batches)
