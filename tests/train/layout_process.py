"""What each process of a launch does in test_topology.py: takes batches in several layouts and keeps them.

torchrun --nproc-per-node 2 -m tests.train.layout_process OUT RUN BARE LAYOUT...

RUN is a run folder; BARE is one without its shards, from which those read that are not to fetch. A layout is
`data,pipeline,context,tensor`.
"""

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh

from data_engine.stream import Stream
from model.processing import KeyeProcessor
from model.tokenizer import load_tokenizer
from model.visual_tokens import visual_budget
from train.feed.batches import Batch, Cursor, Feed
from train.feed.packing import Limits
from train.feed.topology import Layout, deliver, open_route

ROWS, CONTEXT, BATCHES = 4, 128, 5
MOSTLY_WORDS = {"video": 0.05, "image": 0.1, "text": 0.85}
CPU = torch.device("cpu")


def open_feed(run: Path, rank: int = 0, world_size: int = 1) -> Feed:
    """Four rows of 128 tokens over all data-parallel ranks, so that some rank has no picture now and then."""
    processor = KeyeProcessor(load_tokenizer(run / "tokenizer" / "tiny"), visual_budget("tiny"))
    stream = Stream(run / "shards" / "manifest.json", 0, mixture=MOSTLY_WORDS)
    return Feed(stream, processor, ROWS, Limits(CONTEXT), rank, world_size)


def take(layout: Layout, whole: Path, bare: Path, servers: int) -> dict[str, Any]:
    """This process's batches; what it was in torch's own mesh; how many processes it had started."""
    rank = distributed.get_rank()
    mine = layout.coordinates(rank)
    feed = open_feed(whole if mine.fetches else bare, mine.data, layout.data)
    batches = deliver(feed.batches(Cursor(), servers), open_route(layout, rank, CPU))
    taken = list(islice(batches, BATCHES))
    started = len(psutil.Process().children())
    mesh = init_device_mesh("cpu", (layout.pipeline, layout.data, layout.context, layout.tensor))
    pipeline, data, context, tensor = mesh.get_coordinate() or [-1] * 4
    return {"batches": taken, "mesh": (data, pipeline, context, tensor), "started": started}


def refused(layout: Layout, bare: Path) -> str:
    """What a process says of shards that are not there."""
    rank = distributed.get_rank()
    mine = layout.coordinates(rank)
    feed = open_feed(bare, mine.data, layout.data)
    try:
        next(deliver(feed.batches(Cursor(), 0), open_route(layout, rank, CPU)))
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def ended(layout: Layout, whole: Path) -> int:
    """How many batches come of two."""
    rank = distributed.get_rank()
    mine = layout.coordinates(rank)

    def two() -> Iterator[Batch]:
        yield from islice(open_feed(whole, mine.data, layout.data).batches(Cursor(), 0), 2)

    return len(list(deliver(two(), open_route(layout, rank, CPU))))


def main(out: str, whole: str, bare: str, *layouts: str) -> None:
    distributed.init_process_group("gloo")
    for name in layouts:
        layout = Layout(*map(int, name.split(",")))
        servers = int(layout.tensor > 1)
        kept = take(layout, Path(whole), Path(bare), servers)
        if layout.data < layout.world_size:
            kept |= {"refused": refused(layout, Path(bare)), "ended": ended(layout, Path(whole))}
        torch.save(kept, Path(out) / f"{name}-{distributed.get_rank()}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
