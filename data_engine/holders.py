"""Who held a sample: the releases of a run folder, and the checkpoints trained on their shards."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine import tables


@dataclass(frozen=True, slots=True)
class Holders:
    """`releases`: run file -> how many of the samples it kept; `checkpoints`: folder -> how many it may have seen."""

    releases: dict[str, int]
    checkpoints: dict[str, int]


def run_files(data: Path) -> list[Path]:
    """run.json and copies of it that were put beside it."""
    return [path for path in sorted(data.glob("*.json")) if steps_of(path) is not None]


def steps_of(run_file: Path) -> dict[str, str] | None:
    """The steps that a run file names, by name; None for any other file."""
    try:
        found = json.loads(run_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    steps = found.get("steps") if isinstance(found, dict) else None
    return steps if isinstance(steps, dict) and all(isinstance(path, str) for path in steps.values()) else None


def find(data: Path, ids: set[str]) -> Holders:
    """The releases that kept any of `ids`, and the stages whose shards had any in their corpora, or that began from
    such a stage."""
    wanted = pa.array(sorted(ids), pa.string())
    releases = {str(path): _kept(data, path, wanted) for path in run_files(data)}
    return Holders({path: count for path, count in releases.items() if count}, _checkpoints(data, wanted))


def _kept(data: Path, run_file: Path, ids: pa.Array) -> int:
    found: set[str] = set()
    for name, folder in (steps_of(run_file) or {}).items():
        if name.startswith("dedup."):
            for part in tables.parts(data / folder / "samples"):
                column = pq.read_table(part, columns=["id"])["id"]
                found |= set(column.filter(pc.is_in(column, value_set=ids)).to_pylist())
    return len(found)


def _checkpoints(data: Path, ids: pa.Array) -> dict[str, int]:
    held = {hashlib.sha256(path.read_bytes()).hexdigest(): _in_shards(path.parent, ids)
            for path in (data / "steps").glob("[!.]*/shards/manifest.json")}  # fmt: skip
    stages = {path.parent: json.loads(path.read_text(encoding="utf-8"))
              for path in sorted((data / "train").glob("*/stage.json"))}  # fmt: skip
    seen = {folder: _seen(about, held) for folder, about in stages.items()}
    for _ in stages:  # a stage passes what it saw on to those that begin from it
        for folder, about in stages.items():
            source = _source(data, about)
            seen[folder] |= next(
                (seen[one] for one in stages if source and source.is_relative_to(one.resolve())), set()
            )
    made = {folder: [path for path in sorted(folder.glob("checkpoints/*")) if path.is_dir()] for folder in stages}
    return {str(path): len(seen[folder]) for folder, paths in made.items() for path in paths if seen[folder]}


def _in_shards(folder: Path, ids: pa.Array) -> dict[str, str]:
    """Which of `ids` are in training shards: id -> corpus."""
    found: dict[str, str] = {}
    for part in folder.glob("train-*.index.parquet"):
        table = pq.read_table(part, columns=["id", "corpus"])
        table = table.filter(pc.is_in(table["id"], value_set=ids))
        found |= dict(zip(table["id"].to_pylist(), table["corpus"].to_pylist(), strict=True))
    return found


def _seen(about: Mapping[str, object], held: Mapping[str, Mapping[str, str]]) -> set[str]:
    stage = about.get("stage")
    chosen = stage.get("data", {}).get("corpora") if isinstance(stage, dict) else None
    there = held.get(str(about.get("manifest")), {})
    return {name for name, corpus in there.items() if chosen is None or corpus in chosen}


def _source(data: Path, about: Mapping[str, object]) -> Path | None:
    stage = about.get("stage")
    source = stage.get("init", {}).get("from") if isinstance(stage, dict) else None
    return (data / source).resolve() if isinstance(source, str) else None
