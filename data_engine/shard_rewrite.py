"""Shards without some of their samples: the same bytes for all others, new offsets, a new index and manifest."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine import shard_index, shards, tables, tar_blocks


class Plan(Protocol):
    """Where files that will replace others are written, and what will be deleted."""

    def staged(self, target: Path) -> Path: ...

    def drop(self, path: Path) -> None: ...


def rewrite(plan: Plan, step: Path, ids: pa.Array, *, dry_run: bool) -> list[str]:
    """Stages every shard of a step that holds one of `ids`, with its index, and the manifest. Returns their names."""
    folder = step / "shards"
    concerned = []
    sizes: dict[str, tuple[int, int]] = {}
    for split, tars in itertools.groupby(sorted(folder.glob("*.tar")), shards.split_of):
        left: dict[str, pa.Table] = {}
        before = len(sizes)
        for tar in tars:
            left[tar.name] = index = pq.read_table(shards.index_of(tar))
            gone = pc.is_in(index["id"], value_set=ids)
            if pc.any(gone).as_py():
                concerned.append(f"{step.name}/{tar.name}")
                if not dry_run:
                    left[tar.name], size = _rewrite_one(plan, tar, index.filter(pc.invert(gone)))
                    sizes[tar.name] = len(left[tar.name]), size
        if len(sizes) > before:
            _rewrite_index(plan, shard_index.path_of(folder, split), left)
    if sizes:
        _rewrite_manifest(plan, folder / "manifest.json", sizes)
    return concerned


def _rewrite_index(plan: Plan, path: Path, left: Mapping[str, pa.Table]) -> None:
    """The index of a split from what is left of its shards; it goes with the last of them."""
    if indexes := {name: index for name, index in left.items() if len(index)}:
        shard_index.write_split(plan.staged(path), indexes)
    else:
        plan.drop(path)


def _rewrite_one(plan: Plan, tar: Path, kept: pa.Table) -> tuple[pa.Table, int]:
    """Index and bytes of the shard without the others; one that would be empty is deleted with its index."""
    if not len(kept):
        plan.drop(tar)
        plan.drop(shards.index_of(tar))
        return kept, 0
    size = kept["size"].to_numpy()
    target = plan.staged(tar)
    with tar.open("rb") as source, target.open("wb") as file:
        for offset, length in zip(kept["offset"].to_pylist(), size.tolist(), strict=True):
            source.seek(offset)
            file.write(source.read(length))
        file.write(tar_blocks.END)
    offsets = pa.array(np.concatenate([[0], np.cumsum(size)[:-1]]), pa.int64())
    moved = kept.set_column(kept.schema.get_field_index("offset"), "offset", offsets)
    tables.write(moved, plan.staged(shards.index_of(tar)))
    return moved, target.stat().st_size


def _rewrite_manifest(plan: Plan, path: Path, sizes: Mapping[str, tuple[int, int]]) -> None:
    """`sizes`: samples and bytes of the shards that changed; those without a sample are gone."""
    about = json.loads(path.read_text())
    splits = {
        split: [_entry(entry, *sizes.get(entry["file"], (entry["samples"], entry["bytes"]))) for entry in entries]
        for split, entries in about.pop("splits").items()
    }
    kept = {split: [entry for entry in entries if entry["samples"]] for split, entries in splits.items()}
    plan.staged(path).write_bytes(json.dumps(shards.manifest_of(about, kept), indent=1).encode())


def _entry(entry: Mapping[str, Any], samples: int, size: int) -> dict[str, Any]:
    return {**entry, "samples": samples, "bytes": size}
