"""Who reads a batch, and how it reaches the others that train on it.

Processes with the same data-parallel rank train on the same rows. One of them fetches: the first of the first pipeline
stage. The others open no shard and start no I/O server; they receive (report, section on infrastructure).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import distributed

from data_engine.stream.messages import portable
from train.feed.batches import Batch

FIRST_STAGE = frozenset({"input_ids", "pixel_values", "grid_thw"})
"""Tensors that become embeddings, which the first pipeline stage alone makes. The others go to every stage: each layer
needs positions and segments, the last stage the labels, and with them every process knows the number of targets."""


class Coordinates(NamedTuple):
    """A process along each axis."""

    data: int
    pipeline: int
    context: int
    tensor: int

    @property
    def fetches(self) -> bool:
        """Whether this process reads the rows of its data-parallel rank."""
        return self.pipeline == self.context == self.tensor == 0


@dataclass(frozen=True, slots=True)
class Layout:
    """How many processes lie along each axis.

    Ranks count the tensor axis fastest, then context, data and pipeline, as in Megatron-LM: those that exchange most
    are neighbours. Raises ValueError for an axis of no process.
    """

    data: int = 1
    pipeline: int = 1
    context: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        for axis in self.__slots__:
            if getattr(self, axis) < 1:
                raise ValueError(f"layout: the {axis} axis has {getattr(self, axis)} processes; give it at least 1")

    @property
    def world_size(self) -> int:
        return self.data * self.pipeline * self.context * self.tensor

    def coordinates(self, rank: int) -> Coordinates:
        rest, tensor = divmod(rank, self.tensor)
        rest, context = divmod(rest, self.context)
        pipeline, data = divmod(rest, self.data)
        return Coordinates(data, pipeline, context, tensor)

    def replica(self, data: int) -> tuple[int, ...]:
        """The ranks that train on the rows of data-parallel rank `data`; the first of them fetches."""
        return tuple(rank for rank in range(self.world_size) if self.coordinates(rank).data == data)

    def first_stage(self, data: int) -> tuple[int, ...]:
        """Those of `replica` that hold the first pipeline stage."""
        return tuple(rank for rank in self.replica(data) if self.coordinates(rank).pipeline == 0)


@dataclass(frozen=True, slots=True)
class Route:
    """The way from the process that fetches (`source`, a rank) to the others of its replica.

    `first_stage` is None on a process of a later stage.
    """

    source: int
    fetches: bool
    replica: distributed.ProcessGroup
    first_stage: distributed.ProcessGroup | None
    device: torch.device


def open_route(layout: Layout, rank: int, device: torch.device) -> Route | None:
    """This process's route; None where a data-parallel rank is one process. All processes must call it together.

    `device`: where its backend wants tensors (gloo: cpu, NCCL: the process's GPU).
    """
    if layout.world_size == layout.data:
        return None
    mine = layout.coordinates(rank)
    replicas = [distributed.new_group(layout.replica(data)) for data in range(layout.data)]
    stages = replicas
    if layout.pipeline > 1:
        stages = [distributed.new_group(layout.first_stage(data)) for data in range(layout.data)]
    first_stage = None if mine.pipeline else stages[mine.data]
    return Route(layout.replica(mine.data)[0], mine.fetches, replicas[mine.data], first_stage, device)


def deliver(batches: Iterator[Batch], route: Route | None) -> Iterator[Batch]:
    """`batches` of the process that fetches, on every process of its replica: the tensors bit for bit.

    Processes of a later pipeline stage get no `FIRST_STAGE` tensors. Those of a context or tensor group get whole rows:
    targets shift and pictures are scattered over whole rows, so that only the model can cut them afterwards.
    `pieces` and `faults` are kept by the process that fetched, which alone puts them on record. Where `route` is given
    but another process fetches, `batches` is never begun. What it raises is raised on all.
    """
    return batches if route is None else _delivered(batches, route)


def _delivered(batches: Iterator[Batch], route: Route) -> Iterator[Batch]:
    while True:
        found = _share(_fetch(batches) if route.fetches else None, route)
        if found is None:
            return
        if isinstance(found, BaseException):
            raise found
        yield found


def _fetch(batches: Iterator[Batch]) -> Batch | BaseException | None:
    """The next batch; what went wrong instead; None at the end."""
    try:
        return next(batches, None)
    except Exception as error:
        return portable(error)


def _share(fetched: Batch | BaseException | None, route: Route) -> Batch | BaseException | None:
    """What the source fetched, on all of its replica: first what it is, then its tensors, one broadcast each."""
    told = [_without_tensors(fetched) if isinstance(fetched, Batch) else fetched]
    distributed.broadcast_object_list(told, route.source, route.replica, route.device)
    (found,) = told
    if not isinstance(found, Batch):
        return found
    if isinstance(fetched, Batch):
        tensors = {name: tensor.to(route.device).contiguous() for name, tensor in fetched.tensors.items()}
    else:
        tensors = {name: torch.empty_like(meta, device=route.device) for name, meta in found.tensors.items()}
    received = {}
    for name, tensor in tensors.items():
        group = route.first_stage if name in FIRST_STAGE else route.replica
        if group is not None:
            distributed.broadcast(tensor, route.source, group)
            received[name] = tensor
    return replace(fetched if isinstance(fetched, Batch) else found, tensors=received)


def _without_tensors(batch: Batch) -> Batch:
    """What is told of a batch: of its tensors the names, shapes and types."""
    metas = {name: tensor.contiguous().to("meta") for name, tensor in batch.tensors.items()}
    return replace(batch, tensors=metas, pieces=(), faults=())
