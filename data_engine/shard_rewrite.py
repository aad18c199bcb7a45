"""Shards without some of their samples: the same bytes for all others, new offsets, a new index and manifest."""

import json
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine import tables

END = b"\0" * 1024


class Plan(Protocol):
    """Where files that will replace others are written, and what will be deleted."""

    def staged(self, target: Path) -> Path: ...

    def drop(self, path: Path) -> None: ...


def rewrite(plan: Plan, step: Path, ids: pa.Array, *, dry_run: bool) -> list[str]:
    """Stages every shard of a step that holds one of `ids`, with its index, and the manifest. Returns their names."""
    folder = step / "shards"
    concerned = []
    sizes: dict[str, tuple[int, int]] = {}
    for tar in sorted(folder.glob("*.tar")):
        index = pq.read_table(tar.with_suffix(".index.parquet"))
        gone = pc.is_in(index["id"], value_set=ids)
        if pc.any(gone).as_py():
            concerned.append(f"{step.name}/{tar.name}")
            if not dry_run:
                sizes[tar.name] = _rewrite_one(plan, tar, index.filter(pc.invert(gone)))
    if sizes:
        _rewrite_manifest(plan, folder / "manifest.json", sizes)
    return concerned


def _rewrite_one(plan: Plan, tar: Path, kept: pa.Table) -> tuple[int, int]:
    """(samples, bytes) of the shard without the others; one that would be empty is deleted with its index."""
    if not len(kept):
        plan.drop(tar)
        plan.drop(tar.with_suffix(".index.parquet"))
        return 0, 0
    size = kept["size"].to_numpy()
    target = plan.staged(tar)
    with tar.open("rb") as source, target.open("wb") as file:
        for offset, length in zip(kept["offset"].to_pylist(), size.tolist(), strict=True):
            source.seek(offset)
            file.write(source.read(length))
        file.write(END)
    offsets = pa.array(np.concatenate([[0], np.cumsum(size)[:-1]]), pa.int64())
    moved = kept.set_column(kept.schema.get_field_index("offset"), "offset", offsets)
    tables.write(moved, plan.staged(tar.with_suffix(".index.parquet")))
    return len(kept), target.stat().st_size


def _rewrite_manifest(plan: Plan, path: Path, sizes: dict[str, tuple[int, int]]) -> None:
    manifest = json.loads(path.read_text())
    for split, entries in manifest["splits"].items():
        for entry in entries:
            if entry["file"] in sizes:
                entry["samples"], entry["bytes"] = sizes[entry["file"]]
        manifest["splits"][split] = [entry for entry in entries if entry["samples"]]
    plan.staged(path).write_bytes(json.dumps(manifest, indent=1).encode())
