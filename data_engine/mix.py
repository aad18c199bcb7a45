"""The mixing step: kept samples joined with their tokens, split, cut into shards, and put in an epoch's order."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from data_engine import tables
from data_engine.media import write_atomic
from data_engine.mixture import Pool, Schedule, achieved
from data_engine.recipe import Holdout, Recipe
from data_engine.sample import MODALITIES
from data_engine.shard_index import Source
from data_engine.step import Counts
from data_engine.tokens import MIXED


def build(
    folders: Sequence[tuple[Path, Path]],
    holdouts: Mapping[str, Holdout],
    recipe: Recipe,
    folder: Path,
) -> Counts:
    """From (kept samples, tokens) folders to `pool` (shard partitions), `plan` (the first epoch) and mix.json."""
    kept = pa.concat_tables([tables.read(where) for where, _ in folders])
    counted = pa.concat_tables([tables.read(where) for _, where in folders])
    assert kept["id"].combine_chunks().equals(counted["id"].combine_chunks())  # counted row for row
    for name in MIXED:
        kept = kept.append_column(name, counted[name])
    pool = kept.sort_by("id")
    pool = pool.append_column("split", pa.array(splits(pool, holdouts)))
    sharded = _write_pool(pool, recipe.shards.samples, folder / "pool")
    train = sharded.filter(pc.equal(sharded["split"], "train"))
    order, report = _plan(train, recipe)
    tables.write(order, folder / "plan" / "part-00000.parquet")
    write_atomic(folder / "mix.json", json.dumps(report, indent=1).encode())
    return {
        "samples_in": len(kept),
        "samples_kept": len(pool),
        "epoch_samples": len(order),
        "epoch_tokens": report["tokens"],
    }


def splits(pool: pa.Table, holdouts: Mapping[str, Holdout]) -> list[str]:
    """`heldout` for the recipe's share of groups (or ids), by hash: stable when samples come and go."""
    return [
        "heldout" if _fraction(row["id"] if holdouts[row["corpus"]].by == "id" else row["group"] or row["id"])
        < holdouts[row["corpus"]].share else "train"
        for row in pool.select(["id", "group", "corpus"]).to_pylist()
    ]  # fmt: skip


def _fraction(name: str) -> float:
    return xxhash.xxh3_64_intdigest(name.encode()) / 2**64


def _write_pool(pool: pa.Table, size: int, folder: Path) -> pa.Table:
    """Writes one part per shard: each split in the order of hashed ids, so that every shard is a mixture."""
    place = pa.array([xxhash.xxh3_64_intdigest(name.encode()) for name in pool["id"].to_pylist()], pa.uint64())
    ordered = pool.append_column("place", place).sort_by([("split", "descending"), ("place", "ascending")])
    parts = []
    for split in ("train", "heldout"):
        chosen = ordered.filter(pc.equal(ordered["split"], split)).drop_columns(["place"])
        chosen = chosen.append_column("shard", pa.array(np.arange(len(chosen)) // size, pa.int32()))
        for number in range(-(-len(chosen) // size)):
            part = chosen.slice(number * size, size)
            tables.write(part, folder / f"{split}-{number:05d}.parquet")
            parts.append(part)
    return pa.concat_tables(parts)


def _plan(train: pa.Table, recipe: Recipe) -> tuple[pa.Table, dict[str, Any]]:
    """The first epoch's order as a table, and what it achieves."""
    mixture = recipe.mixture
    modality, corpora = train["modality"].to_pylist(), train["corpus"].to_pylist()
    sources = sorted(set(zip(modality, corpora, strict=True)))
    numbers = {source: number for number, source in enumerate(sources)}
    source = np.array([numbers[pair] for pair in zip(modality, corpora, strict=True)], np.uint16)
    pool = Pool([Source(*pair) for pair in sources], source, train["tokens"].to_numpy().astype(np.int32))
    order = Schedule(pool, mixture, seed=mixture.seed, epoch=0).order()
    chosen = train.select(["id", "corpus", "modality", "tokens"]).take(order)
    plan = chosen.add_column(0, "position", pa.array(np.arange(len(order)), pa.int64()))
    found = achieved(pool, order)
    report = {
        "target": dict(mixture.shares),
        "achieved": {name: found.get(name, 0.0) for name in MODALITIES},
        "tokens": int(pool.tokens[order].sum()),
        "samples": len(order),
        "largest_sample": int(pool.tokens[order].max()),
        "pool_tokens": {name: int(pool.tokens[pool.modality == name].sum()) for name in MODALITIES},
    }
    return plan, report


def summary(folder: Path) -> dict[str, float]:
    """The share of tokens per modality in the first epoch."""
    shares: dict[str, float] = report(folder)["achieved"]
    return shares


def report(folder: Path) -> dict[str, Any]:
    """mix.json as data."""
    found: dict[str, Any] = json.loads((folder / "mix.json").read_text())
    return found
