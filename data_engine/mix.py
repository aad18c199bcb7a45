"""The mixing step: kept samples joined with their tokens, split, cut into shards, and put in an epoch's order."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from data_engine import repeats, tables
from data_engine.media import write_atomic
from data_engine.mixture import Pool, Schedule, achieved
from data_engine.recipe import Holdout, Mixture, Recipe
from data_engine.sample import MODALITIES
from data_engine.shard_index import binary_ids, number_sources
from data_engine.step import Counts
from data_engine.tokens import MIXED
from strict_yaml import RecipeError


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
    order, report = plan(train, recipe.mixture, Path(recipe.root))
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


def plan(train: pa.Table, mixture: Mixture, root: Path) -> tuple[pa.Table, dict[str, Any]]:
    """The first epoch's order as a table, and what it achieves. `train`: rows with id, corpus, modality and tokens.

    Raises ValueError for a mixture that the rows do not bear out.
    """
    sources, source = number_sources(train)
    pool = Pool(sources, source, train["tokens"].to_numpy().astype(np.int32), _repeats(train, mixture, root))
    schedule = Schedule(pool, mixture, seed=mixture.seed, epoch=0)
    order = schedule.order()
    chosen = train.select(["id", "corpus", "modality", "tokens"]).take(order)
    table = chosen.add_column(0, "position", pa.array(np.arange(len(order)), pa.int64()))
    return table, _report(pool, schedule, order)


def repeats_at(mixture: Mixture, root: Path) -> str | None:
    """Where the table of repeats is, if the mixture names one."""
    if mixture.repeats is None or "://" in mixture.repeats:
        return mixture.repeats
    return str(root / mixture.repeats)


def repeats_digest(recipe: Recipe) -> str | None:
    """A checksum of the table of repeats: what else it says is another mix. Raises RecipeError."""
    where = repeats_at(recipe.mixture, Path(recipe.root))
    try:
        return (
            None if where is None else hashlib.sha256(json.dumps(repeats.read(where).to_pylist()).encode()).hexdigest()
        )
    except ValueError as error:
        raise RecipeError(str(error)) from error


def mixture_beside(recipe: Recipe, folder: Path) -> Mixture:
    """The mixture as a manifest in `folder` names it: its table of repeats lies there, too."""
    where = repeats_at(recipe.mixture, Path(recipe.root))
    if where is None:
        return recipe.mixture
    tables.write(repeats.read(where), folder / "repeats.parquet")
    return recipe.mixture.model_copy(update={"repeats": "repeats.parquet"})


def _repeats(train: pa.Table, mixture: Mixture, root: Path) -> npt.NDArray[np.uint8] | None:
    where = repeats_at(mixture, root)
    if where is None:
        return None
    return repeats.of_samples(repeats.read(where), binary_ids(train["id"].to_pylist()), where)


def _report(pool: Pool, schedule: Schedule, order: npt.NDArray[np.int32]) -> dict[str, Any]:
    """`target`: the shares after all phases. `worst_error`: the largest distance of any modality's tokens from what it
    should have had by then, at any place, in tokens; it is less than `largest_sample`.
    """
    tokens, source = pool.tokens[order].astype(np.int64), pool.source[order]
    served = schedule.served(np.arange(len(order)) + 1)
    error = np.abs(served - schedule.targets(served.sum(axis=1)))
    found = achieved(pool, order)
    total = max(int(tokens.sum()), 1)
    every = [source.modality for source in pool.sources]
    weights = np.bincount(pool.source, pool.tokens, len(pool.sources))
    sums = np.bincount(source, tokens, len(pool.sources))
    counts = np.bincount(source, minlength=len(pool.sources))
    return {
        "target": dict(schedule.mixture.shares),
        "achieved": {name: found.get(name, 0.0) for name in MODALITIES},
        "tokens": int(tokens.sum()),
        "samples": len(order),
        "largest_sample": int(tokens.max(initial=0)),
        "worst_error": float(error.max(initial=0.0)),
        "pool_tokens": {
            name: int(sum(weight for weight, mine in zip(weights, every, strict=True) if mine == name))
            for name in MODALITIES
        },
        "sources": [
            {
                "modality": one.modality,
                "corpus": one.corpus,
                "samples": int(count),
                "tokens": int(amount),
                "share": float(amount) / total,
                "passes": float(amount) / max(float(weight), 1.0),
            }
            for one, count, amount, weight in zip(pool.sources, counts, sums, weights, strict=True)
        ],
        "pieces": schedule.pieces(),
    }


def summary(folder: Path) -> dict[str, float]:
    """The share of tokens per modality in the first epoch."""
    shares: dict[str, float] = report(folder)["achieved"]
    return shares


def report(folder: Path) -> dict[str, Any]:
    """mix.json as data."""
    found: dict[str, Any] = json.loads((folder / "mix.json").read_text())
    return found
