"""Ranks of a stream as real processes, killed while they read."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from data_engine.stream import Stream

State = dict[str, int]


def read(manifest: Path, rank: int, world_size: int, state: State | None, record: Path, told: Connection) -> None:
    """Reads without end, and tells the state after each sample."""
    stream = Stream(manifest, seed=0, rank=rank, world_size=world_size, state=state, record=record)
    while True:
        for _ in stream:
            told.send(stream.state_dict())


def killed(manifest: Path, world_size: int, state: State | None, record: Path, samples: int) -> State:
    """Kills `world_size` ranks in the middle of it, once each has told of `samples` samples.

    Returns the latest state that all of them had come to. (In the last round of an epoch some may have no place.)
    """
    context: Any = multiprocessing.get_context("spawn")
    pipes = [context.Pipe(duplex=False) for _ in range(world_size)]
    ranks = [
        context.Process(target=read, args=(manifest, rank, world_size, state, record, pipes[rank][1]))
        for rank in range(world_size)
    ]
    for process in ranks:
        process.start()
    told = [[ours.recv() for _ in range(samples)] for ours, _ in pipes]
    for process in ranks:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    for (ours, _), states in zip(pipes, told, strict=True):
        while ours.poll():
            try:
                states.append(ours.recv())
            except (EOFError, OSError):  # the last message was cut short
                break
    common = set.intersection(*({tuple(sorted(state.items())) for state in states} for states in told))
    return max(map(dict, common), key=lambda state: (state["epoch"], state["position"]))
