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

import torch
from rich.console import Console

from data_engine.media import write_atomic
from data_engine.stream.reader import Stream
from train import heldout, record
from train.engine import Engine, Processes, checkpoints, keep_latest, read_state, start_processes
from train.feed.batches import Cursor, Feed, heldout_indices
from train.objectives.next_token import count_targets, loss_sum, sum_over_ranks
from train.stages import Stage, StageError, lineage_of
from train.start import Start, model_folder, save_model, start


def train(stage: Stage, data: Path, *, fresh: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Runs `stage` in the run's folder `data`, or continues it where it stopped. Returns its summary.

    Writes `data`/train/<stage>/: stage.json, metrics.jsonl, checkpoints/, summary.json. `fresh` forgets an
    earlier run of the stage. Raises StageError where the stage does not suit its checkpoint or its data.
    """
    processes = start_processes()
    console = console or Console(stderr=True, quiet=not processes.is_first)
    folder = data / "train" / stage.stage
    claim(folder, stage, data, fresh, processes)
    if (folder / "summary.json").is_file():
        console.print(f"{folder} is finished; --fresh trains it anew")
        return read_summary(folder)

    begun = start(stage, data)
    stream = open_stream(stage, data, "train")
    feed = Feed(stream, begun.processor, stage.rows, stage.context, processes.rank, processes.world_size)
    engine = Engine(begun.model, stage, processes)
    frozen = engine.checksums(stage.frozen)
    step = 0
    if found := checkpoints(folder):
        state = read_state(found[-1])
        check_processes(state["processes"], processes, stage)
        stream.load_state_dict(state["stream"])
        engine.load(found[-1])
        step, frozen = state["step"], state["frozen"]
        console.print(f"{stage.stage} continues after step {step} of {stage.steps}")

    engine.model.train()
    metrics = record.Metrics(folder / "metrics.jsonl", step, enabled=processes.is_first)
    batches = feed.batches(Cursor(stream.epoch, stream.position), stage.data.workers)
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
            row: record.Row = {"step": step, "loss": loss, "targets": int(targets), "samples": batch.num_samples}
            row |= {"tokens": batch.tokens, "tokens_per_second": batch.tokens / seconds, "seconds": seconds}
            row |= {"lr": rate, "grad_norm": norm, "epoch": batch.next.epoch}
            if batch.too_long:
                row["too_long"] = batch.too_long
            metrics.write(row)
            bar.update(line, completed=step, loss=loss, speed=batch.tokens / seconds)
            if step % stage.checkpoint.every == 0 or step == stage.steps:
                save(engine, begun, folder, step, stream.state_dict() | asdict(batch.next), frozen)

    if engine.checksums(stage.frozen) != frozen:
        raise StageError(f"{stage.stage}: training changed a frozen component; this is a bug, please report it")
    return finish(engine, begun, data, folder, console)


def claim(folder: Path, stage: Stage, data: Path, fresh: bool, processes: Processes) -> None:
    """Makes the stage's folder this run's: writes stage.json, or sees that the one there says the same.

    Raises StageError where another recipe, other weights or other shards were begun here.
    """
    source = None if stage.init.source is None else lineage_of(model_folder(data / stage.init.source)).weights
    manifest = data / stage.data.manifest
    shards = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else None
    wanted = {"stage": stage.model_dump(mode="json", by_alias=True), "init_weights": source, "manifest": shards}
    path = folder / "stage.json"
    if path.is_file() and not fresh:
        begun = json.loads(path.read_text(encoding="utf-8"))
        if differing := _differing(begun, wanted):
            raise StageError(f"{folder}: begun with other {', '.join(differing)}; --fresh trains it anew")
    elif processes.is_first:
        shutil.rmtree(folder, ignore_errors=True)
        write_atomic(path, json.dumps(wanted, indent=1).encode())
    torch.distributed.barrier()


def _differing(begun: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    stages = begun["stage"], wanted["stage"]
    keys = [key for key in {**stages[0], **stages[1]} if stages[0].get(key) != stages[1].get(key)]
    return keys + [key for key in ("init_weights", "manifest") if begun[key] != wanted[key]]


def open_stream(stage: Stage, data: Path, split: str) -> Stream:
    """The stage's selection of the run's shards."""
    chosen = stage.data
    shares = None if chosen.mixture is None else {str(name): share for name, share in chosen.mixture.items()}
    return Stream(data / chosen.manifest, stage.seed, mixture=shares, corpora=chosen.corpora, split=split)


def check_processes(saved: int, processes: Processes, stage: Stage) -> None:
    """The optimiser's state is kept in as many parts as there were processes. Raises StageError."""
    if saved != processes.world_size:
        raise StageError(
            f"{stage.stage}: its checkpoint is of {saved} processes, here are {processes.world_size}; "
            f"start {saved}, or begin a stage from its weights with init.from"
        )


def save(engine: Engine, begun: Start, folder: Path, step: int, stream: dict[str, int], frozen: dict[str, str]) -> None:
    """Publishes the checkpoint of `step` and drops older ones."""
    stage, processes = engine.stage, engine.processes
    state = {"step": step, "processes": processes.world_size, "stream": stream, "frozen": frozen}
    target = folder / "checkpoints" / f"step-{step:07d}"
    engine.save(target, state, lambda model: save_model(begun, stage, step, model))
    if processes.is_first:
        keep_latest(folder, stage.checkpoint.keep)


def finish(engine: Engine, begun: Start, data: Path, folder: Path, console: Console) -> dict[str, Any]:
    """Judges the trained stage on held-out samples; writes and shows its summary."""
    stage, processes = engine.stage, engine.processes
    stream = open_stream(stage, data, "heldout")
    items = [stream.read(index) for index in heldout_indices(stream, stage.heldout.samples)]
    console.print(f"{stage.stage}: loss on {len(items)} held-out samples, with their media and with others'")
    began = time.perf_counter()
    alone = stage.zero == 3  # ZeRO-3 gathers weights as they are used: all ranks must score the same sample
    spread = (0, 1) if alone else (processes.rank, processes.world_size)
    scores = heldout.score(engine.model, begun.processor, items, *spread)
    summary = {
        "stage": stage.stage,
        **record.summarise(record.read_metrics(folder / "metrics.jsonl"), stage.batch_tokens),
        **heldout.summarise(scores),
        "heldout_seconds": round(time.perf_counter() - began, 2),
        "trainable": list(stage.trainable),
        "frozen_unchanged": True,
        "parameters": engine.num_parameters(),
    }
    if processes.is_first:
        write_atomic(folder / "summary.json", json.dumps(summary, indent=1).encode())
        console.print(record.table(stage.stage, summary))
    torch.distributed.barrier()
    return summary


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a finished stage."""
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return summary
