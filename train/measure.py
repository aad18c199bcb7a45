"""`keyeforge train cost`: what a stage's samples cost on this machine, from its own rows, timed."""

from itertools import islice
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from train.engine import freeze, start_processes
from train.feed import cost
from train.feed.batches import Cursor
from train.feed.topology import Coordinates, Layout
from train.objectives.next_token import loss_sum
from train.run import open_feed, open_stream
from train.stages import Stage
from train.start import start

STEPS = 48


def measure(stage: Stage, data: Path, console: Console) -> cost.CostModel:
    """Times forward and backward of the stage's first rows, one by one, and fits `data`/train/<stage>.cost.json.

    Raises StageError where the stage does not suit its data, and ValueError where an epoch has too few rows.
    """
    processes = start_processes()
    begun = start(stage, data)
    stream = open_stream(stage, data, "train")
    one_row = stage.model_copy(update={"batch_tokens": stage.context})
    feed = open_feed(one_row, stream, begun, data, Layout(), Coordinates(0, 0, 0, 0))
    half = stage.precision == "bf16" and processes.device.type == "cuda"
    model = begun.model.to(processes.device, torch.bfloat16 if half else torch.float32).train()
    freeze(model, stage.trainable)
    batches = list(islice(feed.batches(Cursor(), servers=0), STEPS))
    rows = [{name: tensor.to(processes.device) for name, tensor in batch.tensors.items()} for batch in batches]

    def step(row: dict[str, torch.Tensor]) -> None:
        loss_sum(model, row).backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=True)

    index = stream.index
    found = cost.terms(model.config, index.tokens, index.visual_tokens, index.squared_patches)
    summed = np.array([found[[piece.number for piece in batch.pieces]].sum(axis=0) for batch in batches])
    is_cuda = processes.device.type == "cuda"
    synchronise = torch.cuda.synchronize if is_cuda else lambda: None
    console.print(f"{stage.stage}: forward and backward of {len(rows)} rows, each three times")
    seconds = cost.timed([lambda row=row: step(row) for row in rows], synchronise)  # type: ignore[misc]
    name = torch.cuda.get_device_name() if is_cuda else f"CPU, {torch.get_num_threads()} threads"
    fitted = cost.fit(summed, 1, seconds, name)
    fitted.save(data / "train" / f"{stage.stage}.cost.json")
    return fitted
