"""A ZeRO checkpoint of some processes, taken up by another number of them, to the last bit.

DeepSpeed keeps master weights and moments in as many parts as there were processes, and loads only as many. Here the
parts are put together and cut anew into what this process would have saved, and DeepSpeed's own loading does the rest.
Its converter (`ds_to_universal`) writes the whole state a second time, and what loads that takes, under ZeRO-3, the
first group's settings for all, so that what must not decay would.

What is frozen is in no part: it stays as the stage began with it.
"""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Part = dict[str, Any]
"""What one process saved: the `state_dict` of DeepSpeed's ZeRO optimiser."""


def load_resharded(optimizer: Any, folder: Path, zero: int, saved: int, rank: int, world_size: int) -> None:
    """Loads what `saved` processes wrote to DeepSpeed's `folder` into this one's ZeRO `optimizer`."""
    parts = [_read(folder, number) for number in range(saved)]
    if zero == 3:
        numels = [[parameter.ds_numel for parameter in group] for group in optimizer.fp16_groups]
        groups = [optimizer.sub_group_to_group_id[number] for number in range(len(numels))]
        part = cut_parameters(parts, numels, groups, rank, world_size)
    else:
        part = cut_groups(parts, [master.numel() for master in optimizer.single_partition_of_fp32_groups], rank)
    every = [part if number == rank else None for number in range(world_size)]
    optimizer.load_state_dict(every, load_optimizer_states=True, load_from_fp32_weights=True)
    if zero < 3:
        optimizer.update_lp_params()


def _read(folder: Path, rank: int) -> Part:
    """Memory-mapped: a process touches little more than it cuts out."""
    (path,) = folder.glob(f"*zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    part: Part = torch.load(path, map_location="cpu", weights_only=False, mmap=True)["optimizer_state_dict"]
    return part


def cut_groups(parts: Sequence[Part], sizes: Sequence[int], rank: int) -> Part:
    """The part of `rank` under ZeRO-1 and 2: each group's parameters lie one after the other, cut into equal stretches.

    `sizes`: of a stretch of each group, with the zeros that pad the last one.
    """
    masters = [part["single_partition_of_fp32_groups"] for part in parts]
    states = [part["base_optimizer_state"]["state"] for part in parts]
    state = {}
    for group, size in enumerate(sizes):
        pieces = {name: [one[group][name] for one in states] for name in states[0][group]}
        state[group] = {name: _cut(values, rank * size, size) for name, values in pieces.items()}
    return {
        **parts[0],
        "base_optimizer_state": {**parts[0]["base_optimizer_state"], "state": state},
        "single_partition_of_fp32_groups": [
            span([master[group] for master in masters], rank * size, size) for group, size in enumerate(sizes)
        ],
    }


def cut_parameters(
    parts: Sequence[Part], numels: Sequence[Sequence[int]], groups: Sequence[int], rank: int, world_size: int
) -> Part:
    """The part of `rank` under ZeRO-3: each parameter is cut by itself, and its last piece padded with zeros.

    `numels`: of the parameters of each sub-group; `groups`: the group of the optimiser that each sub-group is of. How
    many sub-groups a group falls into depends on the number of processes; the order of the parameters does not.
    """
    optimizers = [part["optimizer_state_dict"] for part in parts]
    state: dict[int, dict[str, Tensor]] = {number: {} for number in range(len(numels))}
    for name, value in optimizers[0]["state"][0].items():
        streams = [[one[name] for one in optimizer["state"].values()] for optimizer in optimizers]
        cut = _cut_each(streams, numels, rank, world_size) if value.ndim else [value.clone() for _ in numels]
        for number, tensor in enumerate(cut):
            state[number][name] = tensor
    settings = [
        {**group, "params": [number for number, owner in enumerate(groups) if owner == index]}
        for index, group in enumerate(optimizers[0]["param_groups"])
    ]
    masters = [part["fp32_flat_groups"] for part in parts]
    return {
        **parts[0],
        "optimizer_state_dict": {"state": state, "param_groups": settings},
        "fp32_flat_groups": _cut_each(masters, numels, rank, world_size),
    }


def _cut_each(
    streams: Sequence[Sequence[Tensor]], numels: Sequence[Sequence[int]], rank: int, world_size: int
) -> list[Tensor]:
    """One tensor for each sub-group of `numels`, from those that each part had."""
    held = [[-(-numel // len(streams)) for numel in sub_group] for sub_group in numels]
    starts = accumulate((size for sub_group in held for size in sub_group), initial=0)
    assert sum(map(len, streams[0])) == sum(map(sum, held)), "the checkpoint has other parameters than the model"
    cut = []
    for sub_group, sizes in zip(numels, held, strict=True):
        pieces = []
        for numel, size, start in zip(sub_group, sizes, starts, strict=False):
            share = -(-numel // world_size)
            pieces.append(span([span(stream, start, size) for stream in streams], rank * share, share))
        cut.append(torch.cat(pieces))
    return cut


def _cut(pieces: Sequence[Tensor], start: int, numel: int) -> Tensor:
    """A moment's stretch; a count of steps as it is."""
    return span(pieces, start, numel) if pieces[0].ndim else pieces[0].clone()


def span(pieces: Sequence[Tensor], start: int, numel: int) -> Tensor:
    """[numel] from `start` on of what `pieces` make one after the other; zeros past their end."""
    result = torch.zeros(numel, dtype=pieces[0].dtype)
    begin = 0
    for piece in pieces:
        low, high = max(start, begin), min(start + numel, begin + len(piece))
        if low < high:
            result[low - start : high - start] = piece[low - begin : high - begin]
        begin += len(piece)
    return result
