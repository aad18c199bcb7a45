"""Faults of all shards of a manifest, as values: the files there are, and each shard (`shard_faults`) in parallel."""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_engine import shard_index, shards
from data_engine.media import INCOMING
from data_engine.shard_faults import Finding, Shard, lint_shard


class LintError(ValueError):
    """What is no manifest of shards: the message names the file and the fix."""


def lint(
    manifest: Path, *, quick: bool = False, processes: int = 1, progress: Callable[[int, int], None] | None = None
) -> list[Finding]:
    """All faults of the shards of a manifest (or of the folder it is in), in order of their files.

    `quick`: sizes, indexes and manifest alone, no tar is read. Raises LintError where there is no manifest.
    """
    path = manifest / "manifest.json" if manifest.is_dir() else manifest
    about = _manifest(path)
    found, unread = _of_folder(path.parent, about)
    todo = [
        Shard(path.parent / entry["file"], split, entry, about.get("preset", ""), split in unread)
        for split, entries in about["splits"].items()
        for entry in entries
        if (path.parent / entry["file"]).exists()
    ]
    for number, more in enumerate(_each(functools.partial(lint_shard, quick=quick), todo, processes), 1):
        found += more
        if progress is not None:
            progress(number, len(todo))
    return sorted([*found, *_twice([shard.tar for shard in todo])], key=lambda one: (one.file, one.key))


def _manifest(path: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads(path.read_bytes())
        [(entry["file"], entry["samples"], entry["bytes"]) for entries in about["splits"].values() for entry in entries]
    except FileNotFoundError as error:
        raise LintError(f"{path}: no manifest here; give a manifest.json or its folder") from error
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise LintError(f"{path}: not a manifest of shards ({type(error).__name__}: {error}); write it anew") from error
    return about


def _each(work: Callable[[Shard], list[Finding]], todo: Sequence[Shard], processes: int) -> Iterator[list[Finding]]:
    if min(processes, len(todo)) <= 1:
        yield from map(work, todo)
        return
    with ProcessPoolExecutor(min(processes, len(todo)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, todo)


def _twice(tars: Sequence[Path]) -> Iterator[Finding]:
    """Keys that two shards have, one finding a shard. By their indexes: only where keys overlap are they read."""
    spans = sorted((span, tar) for tar in tars if (span := _span(shards.index_of(tar))))
    known: dict[str, str] = {}
    highest, before = "", list[Path]()
    for (first, last), tar in spans:
        if first > highest:
            known, before = {}, []
        for other in before:
            known |= dict.fromkeys(_keys(other), other.name)
        before = [tar]
        common = [key for key in (_keys(tar) if known else ()) if key in known]
        if common:
            more = f" (and {len(common) - 1:,} more)" if len(common) > 1 else ""
            yield Finding(tar.name, common[0], "duplicate key", f"{known[common[0]]} has it, too{more}")
        highest = max(highest, last)


def _span(index: Path) -> tuple[str, str] | None:
    """The lowest and the highest key of a shard, by the footer of its index; None for one without rows."""
    try:
        footer = pq.read_metadata(index)
    except (pa.ArrowException, OSError):
        return None  # told of the shard
    place = footer.schema.names.index("key")
    told = [footer.row_group(group).column(place).statistics for group in range(footer.num_row_groups)]
    return (min(one.min for one in told), max(one.max for one in told)) if told and footer.num_rows else None


def _keys(tar: Path) -> list[str]:
    keys: list[str] = pq.read_table(shards.index_of(tar), columns=["key"])["key"].to_pylist()
    return keys


def _of_folder(folder: Path, about: Mapping[str, Any]) -> tuple[list[Finding], set[str]]:
    """What files there are, against the manifest; and the splits whose index cannot be read."""
    entries = {split: [entry["file"] for entry in told] for split, told in about["splits"].items() if told}
    tars = [name for names in entries.values() for name in names]
    known = {*tars, *(shards.index_of(Path(name)).name for name in tars), *about.get("indexes", {}).values()}
    here = {file.name for file in folder.iterdir()}
    strays = [
        name
        for name in here - known
        if name.endswith((".tar", ".index.parquet", ".index.arrow")) or name.startswith(INCOMING)
    ]
    found = [Finding(name, "", "missing file", "the manifest lists it") for name in known - here]
    found += [
        Finding(name, "", "unlisted file", "the manifest does not list it, nor a shard that it does") for name in strays
    ]
    wids = [(entry["url"], entry["nsamples"]) for entry in about.get("shardlist", ())]
    if wids != [(entry["file"], entry["samples"]) for entry in about["splits"].get("train", ())]:
        found.append(Finding("manifest.json", "", "index drift", "`shardlist` differs from `splits.train`"))
    unread = set()
    for split, names in entries.items():
        if fault := _split_fault(folder, about, split, names):
            unread.add(split)
            found += [fault] if fault.what else []
    return found, unread


def _split_fault(folder: Path, about: Mapping[str, Any], split: str, names: Sequence[str]) -> Finding | None:
    """What makes the index of a split useless; without words where its file is missing, which is told already."""
    file = shard_index.path_of(folder, split).name
    if about.get("indexes", {}).get(split) != file:
        return Finding("manifest.json", "", "index drift", f"`indexes.{split}` is not {file}")
    try:
        index = shard_index.read(folder / file)
    except FileNotFoundError:
        return Finding(file, "", "missing file", "")
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:
        return Finding(file, "", "index drift", f"cannot be read ({type(error).__name__}: {error})")
    if shard_index.digest_of(index.source, index.tokens, index.xxh3) != index.digest:
        return Finding(file, "", "index drift", "its columns do not have its digest")
    if list(index.shards) != list(names):
        return Finding(
            file,
            "",
            "index drift",
            f"is of {len(index.shards)} shards, the manifest of {len(names)}, or in another order",
        )
    return None
