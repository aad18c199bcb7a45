"""One stage, from recipe to summary: read `train` top to bottom.

keyeforge train stage1 train/recipes/demo/stage1.yaml --data build/demo
torchrun --nproc-per-node 8 -m train.cli stage1 train/recipes/demo/stage1.yaml --data build/demo
"""

import hashlib
import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from data_engine.media import write_atomic
from data_engine.recipe import Mixture, Phase
from data_engine.stream import Stream
from train import heldout, record
from train.checkpoint import checkpoints, discard_partial, keep_latest, read_state, sync
from train.consumed import Consumed, audit, proof, rewind
from train.engine import Engine, Processes, start_processes
from train.feed import cost
from train.feed.batches import Batch, Cursor, Feed, heldout_numbers
from train.feed.packing import Limits
from train.feed.topology import Coordinates, Layout, deliver, open_route
from train.objectives.next_token import count_targets, loss_sum, sum_over_ranks
from train.stages import Stage, StageError, lineage_of
from train.start import Start, model_folder, save_model, start

HOW_DATA_IS_READ = ("workers", "workers_kind", "timeout", "max_failures")
"""Settings of a stage that may change while it is under way: they change nothing of what it trains on."""


def train(stage: Stage, data: Path, *, fresh: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Runs `stage` in the run's folder `data`, or continues it where it stopped. Returns its summary.

    Writes `data`/train/<stage>/: stage.json, metrics.jsonl, checkpoints/, summary.json. `fresh` forgets an
    earlier run of the stage. Raises StageError where the stage does not suit its checkpoint or its data.
    """
    processes = start_processes()
    check_rows(stage, processes)
    console = console or Console(stderr=True, quiet=not processes.is_first)
    folder = data / "train" / stage.stage
    claim(folder, stage, data, fresh, processes)
    if (folder / "summary.json").is_file():
        console.print(f"{folder} is finished; --fresh trains it anew")
        return read_summary(folder)

    begun = start(stage, data)
    stream = open_stream(stage, data, "train")
    layout = Layout(data=processes.world_size)
    feed = open_feed(stage, stream, begun, data, layout, layout.coordinates(processes.rank))
    engine = Engine(begun.model, stage, processes)
    frozen = engine.checksums(stage.frozen)
    step, cursor = 0, Cursor()
    if found := checkpoints(folder):
        state = read_state(found[-1])
        stream.require(state["stream"])
        cursor = Cursor(**state["cursor"])
        engine.load(found[-1])
        step, frozen = state["step"], state["frozen"]
        console.print(f"{stage.stage} continues after step {step} of {stage.steps}")

    engine.model.train()
    metrics = record.Metrics(folder / "metrics.jsonl", step, enabled=processes.is_first)
    fetched = feed.batches(cursor, stage.data.workers, stage.data.workers_kind, stage.data.timeout)
    batches = deliver(fetched, open_route(layout, processes.rank, processes.device))
    consumed = open_records(stage, folder, cursor, processes)
    with metrics, record.progress_bar(console) as bar:
        line = bar.add_task(stage.stage, total=stage.steps, completed=step, loss=float("nan"), speed=0.0)
        while step < stage.steps:
            began = time.perf_counter()
            batch = next(batches)
            tensors = {name: tensor.to(processes.device) for name, tensor in batch.tensors.items()}
            targets = sum_over_ranks(count_targets(tensors))
            total = loss_sum(engine.deepspeed, tensors)
            rate, norm = engine.step(total * processes.world_size / max(targets, 1), step)
            step += 1
            loss = sum_over_ranks(total.item()) / max(targets, 1)
            seconds = time.perf_counter() - began
            done = {"step": step, "loss": loss, "targets": int(targets), "lr": rate, "grad_norm": norm}
            metrics.write(done | told(batch, seconds, stream))
            consumed.note(batch)
            cursor = batch.next
            bar.update(line, completed=step, loss=loss, speed=batch.tokens / seconds)
            if step % stage.checkpoint.every == 0 or step == stage.steps:
                save(engine, begun, folder, step, {"stream": stream.identity(), "cursor": asdict(cursor)}, frozen)

    if engine.checksums(stage.frozen) != frozen:
        raise StageError(f"{stage.stage}: training changed a frozen component; this is a bug, please report it")
    return finish(engine, begun, data, folder, cursor, console)


def claim(folder: Path, stage: Stage, data: Path, fresh: bool, processes: Processes) -> None:
    """Makes the stage's folder this run's: writes stage.json, or sees that the one there says the same.

    Who reads the data, and how, may differ.

    Raises StageError where another recipe, other weights or other shards were begun here.
    """
    source = None if stage.init.source is None else lineage_of(model_folder(data / stage.init.source)).weights
    manifest = data / stage.data.manifest
    shards = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else None
    settings = stage.model_dump(mode="json", by_alias=True, exclude={"data": set(HOW_DATA_IS_READ)})
    wanted = {"stage": settings, "init_weights": source, "manifest": shards}
    path = folder / "stage.json"
    if path.is_file() and not fresh:
        begun = json.loads(path.read_text(encoding="utf-8"))
        if differing := _differing(begun, wanted):
            raise StageError(f"{folder}: begun with other {', '.join(differing)}; --fresh trains it anew")
    elif processes.is_first:
        path.unlink(missing_ok=True)  # first: without it nothing of the folder counts, should this be killed here
        shutil.rmtree(folder, ignore_errors=True)
        write_atomic(path, json.dumps(wanted, indent=1).encode())
    if processes.is_first:
        discard_partial(folder)
    torch.distributed.barrier()


def _differing(begun: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    stages = begun["stage"], wanted["stage"]
    keys = [key for key in {**stages[0], **stages[1]} if stages[0].get(key) != stages[1].get(key)]
    return keys + [key for key in ("init_weights", "manifest") if begun[key] != wanted[key]]


def open_stream(stage: Stage, data: Path, split: str) -> Stream:
    """The stage's selection of the run's shards."""
    chosen = stage.data
    mixture = None
    if chosen.mixture is not None:
        phases = [Phase(tokens=phase.steps * stage.batch_tokens, shares=phase.shares) for phase in chosen.phases]
        table = None if chosen.repeats is None else str((data / chosen.repeats).resolve())
        whole = Mixture(shares=chosen.mixture, phases=phases, repeats=table)
        mixture = whole if split == "train" else Mixture(shares=chosen.mixture)
    return Stream(data / chosen.manifest, stage.seed, mixture=mixture, corpora=chosen.corpora, split=split)


def open_feed(stage: Stage, stream: Stream, begun: Start, data: Path, layout: Layout, mine: Coordinates) -> Feed:
    """The stage's batches, of which this process's data-parallel rank gets its part."""
    limits = Limits(stage.context, stage.packing.max_pictures, stage.packing.max_patches)
    return Feed(
        *(stream, begun.processor, stage.rows, limits, mine.data, layout.data),
        look_ahead=stage.packing.look_ahead,
        costs=costs(stage, stream, begun, data),
        max_failures=stage.data.max_failures,
    )


def costs(stage: Stage, stream: Stream, begun: Start, data: Path) -> npt.NDArray[np.float64]:
    """What each sample of the index costs: seconds, by a fitted model, or FLOPs. Raises StageError for no model."""
    index = stream.index
    found = cost.terms(begun.model.config, index.tokens, index.visual_tokens, index.squared_patches)
    if stage.data.cost is None:
        return np.asarray(found.sum(axis=1))
    try:
        return cost.CostModel.load(data / stage.data.cost).seconds(found)
    except ValueError as error:
        raise StageError(f"{stage.stage}: data.cost: {error}") from error


def open_records(stage: Stage, folder: Path, cursor: Cursor, processes: Processes) -> Consumed:
    """What is noted of consumed batches, without what was consumed after the checkpoint at `cursor`."""
    if processes.is_first:
        rewind(folder, cursor)
    torch.distributed.barrier()
    return Consumed(folder, processes.rank, with_ledger=stage.data.ledger)


def told(batch: Batch, seconds: float, stream: Stream) -> record.Row:
    """What a row of metrics says of a batch."""
    row: record.Row = {"samples": batch.num_samples, "tokens": batch.tokens, "seconds": seconds}
    row |= {"tokens_per_second": batch.tokens / seconds, "epoch": batch.epoch}
    if batch.refused:
        row["too_long"] = [stream.index.id(piece.number) for piece in batch.refused]
    if batch.shrunk:
        row["shrunk"] = batch.shrunk
    return row


def check_rows(stage: Stage, processes: Processes) -> None:
    """Raises StageError where the rows of a batch do not spread over the processes."""
    if stage.rows % processes.world_size:
        fitting = [number for number in range(1, processes.world_size) if stage.rows % number == 0]
        raise StageError(
            f"{stage.stage}: a batch of {stage.rows} rows does not spread over {processes.world_size} processes; "
            f"start {fitting[-1]} of them, or set batch_tokens to a multiple of {processes.world_size * stage.context}"
        )


def save(engine: Engine, begun: Start, folder: Path, step: int, place: dict[str, Any], frozen: dict[str, str]) -> None:
    """Publishes the checkpoint of `step` and drops older ones."""
    stage, processes = engine.stage, engine.processes
    state = {"step": step, "processes": processes.world_size, "frozen": frozen, **place}
    target = folder / "checkpoints" / f"step-{step:07d}"
    sync([*folder.glob("*.jsonl"), *folder.glob("ledger/*.ledger")])
    engine.save(target, state, lambda model: save_model(begun, stage, step, model))
    if processes.is_first:
        keep_latest(folder, stage.checkpoint.keep)


def finish(engine: Engine, begun: Start, data: Path, folder: Path, cursor: Cursor, console: Console) -> dict[str, Any]:
    """Judges the trained stage on held-out samples; writes and shows its summary."""
    stage, processes = engine.stage, engine.processes
    stream = open_stream(stage, data, "heldout")
    items = [stream.read(number) for number in heldout_numbers(stream, stage.heldout.samples)]
    console.print(f"{stage.stage}: loss on {len(items)} held-out samples, with their media and with others'")
    began = time.perf_counter()
    alone = stage.zero == 3  # ZeRO-3 gathers weights as they are used: all ranks must score the same sample
    spread = (0, 1) if alone else (processes.rank, processes.world_size)
    scores = heldout.score(engine.model, begun.processor, items, *spread)
    summary = {
        "stage": stage.stage,
        **record.summarise(record.read_rows(folder / "metrics.jsonl"), stage.batch_tokens),
        **heldout.summarise(scores),
        "heldout_seconds": round(time.perf_counter() - began, 2),
        "trainable": list(stage.trainable),
        "frozen_unchanged": True,
        "parameters": engine.num_parameters(),
    }
    if stage.data.ledger:
        summary["ledger"] = proof(audit(folder, open_stream(stage, data, "train"), cursor))
    if processes.is_first:
        write_atomic(folder / "summary.json", json.dumps(summary, indent=1).encode())
        console.print(record.table(stage.stage, summary))
    torch.distributed.barrier()
    return summary


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a finished stage."""
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return summary
