"""Taking samples out of a run for good: tables, indexes, shards and media; and the tombstones they leave.

Everything new is first written under `DIR/.removal/`; then one file, the plan, makes it binding; then files are
renamed into place and deleted. Whatever interrupts it, either nothing has happened or the next call ends it.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine import catalog, holders, refresh, selector, tables, tombstones
from data_engine.catalog import CatalogError
from data_engine.media import MediaStore, store_of, write_atomic
from data_engine.selector import Selector
from data_engine.shard_rewrite import rewrite

STAGING = ".removal"
DAY = 24 * 3600


@dataclass(slots=True)
class Plan:
    """What is to happen in one run folder: staged files to put in place of others, and paths to delete."""

    data: Path
    replace: dict[str, str] = field(default_factory=dict)  # path in the run folder -> name in the staging folder
    delete: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)  # whose counts are to be told anew
    discard: list[str] = field(default_factory=list)  # keys of media
    refuse: list[str] = field(default_factory=list)  # notes on addresses that are not to be asked again

    def staged(self, target: Path) -> Path:
        """Where to write what will replace `target`."""
        name = f"{len(self.replace):06d}{target.suffix}"
        self.replace[str(target.relative_to(self.data))] = name
        folder = self.data / STAGING / "files"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def drop(self, path: Path) -> None:
        self.delete.append(str(path.relative_to(self.data)))


@dataclass(frozen=True, slots=True)
class Removal:
    """What a removal did in one run folder, or would do."""

    data: Path
    ids: list[str]
    media: list[str]
    rows: dict[str, int]  # per step and table
    shards: list[str]
    held_by: holders.Holders
    ended: bool = False  # an earlier removal that had been cut short


def remove(data: Path, chosen: Selector, reason: str, *, dry_run: bool = False, now: float | None = None) -> Removal:
    """Removes the samples that `chosen` names from the run folder. An earlier removal that was cut short ends first.

    With `dry_run` nothing is changed. Raises CatalogError where nothing matches, or while a run is at work there.
    """
    catalog.steps(data)
    ended = False
    if not dry_run:
        ended = finish(data)
        _refuse_a_run_at_work(data, now if now is not None else time.time())
    ids = selector.matching(data, chosen)
    if not ids and ended:
        return Removal(data, [], [], {}, [], holders.Holders({}, {}), ended)
    if not ids:
        raise CatalogError(f"{data}: no sample matches --{chosen.by} {chosen.text}")
    exclusive = selector.media_of(data, ids)
    media = sorted({key for keys in exclusive.values() for key in keys})
    held_by = holders.find(data, ids)
    plan = Plan(data)
    rows, shards = _stage(plan, ids, media, dry_run=dry_run)
    result = Removal(data, sorted(ids), media, rows, shards, held_by, ended)
    if not dry_run:
        _stage_tombstones(plan, chosen, exclusive, reason)
        _commit(plan)
        finish(data)
    return result


def finish(data: Path) -> bool:
    """Ends a removal that was interrupted after its plan was made, and clears away one that had none."""
    staging = data / STAGING
    if not (staging / "plan.json").exists():
        shutil.rmtree(staging, ignore_errors=True)
        return False
    plan = json.loads((staging / "plan.json").read_text())
    for target, name in plan["replace"].items():
        if (staging / "files" / name).exists():  # else it is in place already
            (staging / "files" / name).replace(data / target)
    for target in plan["delete"]:
        path = data / target
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    store = MediaStore(store_of(data))
    for key in plan.get("discard", []):
        store.discard(key)
    for note in plan.get("refuse", []):
        store.put_note(note, orjson.dumps({"field": "url", "refused": "removed on request (tombstones.jsonl)"}))
    refresh.refresh(data, [data / step for step in plan["steps"]])
    # The plan goes last but one: an empty staging folder without it means that all is done.
    (staging / "plan.json").unlink()
    shutil.rmtree(staging)
    return True


def _commit(plan: Plan) -> None:
    content = {name: getattr(plan, name) for name in ("replace", "delete", "steps", "discard", "refuse")}
    write_atomic(plan.data / STAGING / "plan.json", json.dumps(content, indent=1).encode())


def in_progress(data: Path) -> list[Path]:
    """The folders of steps that are not finished."""
    return sorted(path for path in (data / "steps").glob(".*") if path.is_dir())


def age(folder: Path, now: float) -> float:
    """Seconds since anything in the folder was written."""
    latest = folder.lstat().st_mtime
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a run at work renames files as it goes
            latest = max(latest, path.lstat().st_mtime)
    return now - latest


def _refuse_a_run_at_work(data: Path, now: float) -> None:
    for folder in in_progress(data):
        if age(folder, now) < DAY:
            raise CatalogError(
                f"{data}: a run is at work ({folder.name[1:]}); let it end, or, if it was killed, clear it away with "
                "`keyeforge data gc --in-progress`"
            )


def _stage(plan: Plan, ids: set[str], media: Sequence[str], *, dry_run: bool) -> tuple[dict[str, int], list[str]]:
    """Writes the new files of all steps. Returns removed rows per step and table, and the shards concerned."""
    rows: dict[str, int] = {}
    shards: list[str] = []
    wanted, keys = pa.array(sorted(ids), pa.string()), pa.array(media, pa.string())
    for step in sorted(path for path in (plan.data / "steps").glob("[!.]*") if path.is_dir()):
        before = len(plan.replace) + len(plan.delete)
        for file in _parquet(step):
            gone = _gone(plan.data, step, file, wanted, keys)
            if gone is not None and gone.any():
                name = f"{step.name.rpartition('-')[0]}/{file.parent.relative_to(step)}"
                rows[name] = rows.get(name, 0) + int(gone.sum())
                if not dry_run:
                    _stage_rows(plan, file, gone)
        if (step / "drops").is_dir() and not dry_run:
            _stage_pass(plan, step, wanted)
        if (step / "shards").is_dir():
            shards += rewrite(plan, step, wanted, dry_run=dry_run)
        if len(plan.replace) + len(plan.delete) > before:
            plan.steps.append(str(step.relative_to(plan.data)))
    if not dry_run:
        _stage_media(plan, media)
        for folder in in_progress(plan.data):
            plan.drop(folder)
    return rows, shards


def _parquet(step: Path) -> Iterator[Path]:
    """The step's own parquet files: no links, no markers, no indexes of shards, no rows of a pass."""
    for folder, _, names in os.walk(step):
        if Path(folder) not in {step / "shards", step / "drops"} and Path(folder).name != "_done":
            for name in sorted(names):
                path = Path(folder) / name
                if name.endswith(".parquet") and not path.is_symlink():
                    yield path


def _gone(data: Path, step: Path, file: Path, ids: pa.Array, keys: pa.Array) -> npt.NDArray[np.bool_] | None:
    """Which rows of a step's file are of removed samples or removed media; None where it is not about either."""
    names = pq.read_schema(file).names
    if "id" in names:
        return _is_in(pq.read_table(file, columns=["id"])["id"], ids)
    if file.parent.name == "looked":  # row for row with the samples it was made from
        samples = tables.parts(refresh.input_of(data, step, 0) / "samples")
        part = next(path for path in samples if path.name == file.name)
        return _is_in(pq.read_table(part, columns=["id"])["id"], ids)
    if "key" in names and step.name.startswith(("probe.", "films.")):
        return _is_in(pq.read_table(file, columns=["key"])["key"], keys)
    return None


def _is_in(column: pa.ChunkedArray, values: pa.Array) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = pc.is_in(column, value_set=values).to_numpy()
    return found


def _stage_rows(plan: Plan, file: Path, gone: npt.NDArray[np.bool_]) -> None:
    if file.parent.name == "frames":  # one file a video: it goes whole
        plan.drop(file)
    else:
        tables.write(pq.read_table(file).filter(pa.array(~gone)), plan.staged(file))


def _stage_pass(plan: Plan, step: Path, ids: pa.Array) -> None:
    """A pass's rows are numbered within their part: the numbers close up where rows went. Its scratch is cleared."""
    verdicts = tables.parts(refresh.input_of(plan.data, step, 0) / "verdicts")
    touched = False
    for drops, part in zip(tables.parts(step / "drops"), verdicts, strict=True):
        gone = _is_in(pq.read_table(part, columns=["id"])["id"], ids)
        if gone.any():
            touched = True
            found = pq.read_table(drops)
            found = found.filter(pa.array(~gone[found["row"].to_numpy()]))
            row = found["row"].to_numpy() - np.cumsum(gone)[found["row"].to_numpy()]
            column = pa.array(row, pa.int64())
            tables.write(found.set_column(found.schema.get_field_index("row"), "row", column), plan.staged(drops))
    if touched:
        for path in step.iterdir():
            if path.name not in {"drops", "benchmark_media"} and path.suffix != ".json":
                plan.drop(path)


def _stage_media(plan: Plan, media: Sequence[str]) -> None:
    """The files go, frames of videos with them, and a note on an address says that it is not to be asked again."""
    plan.discard = list(media)
    for answers in (plan.data / "cache/answers").glob("answers-*.jsonl"):  # which of them tell of it is not known
        plan.drop(answers)
    for key in media:
        for note in (plan.data / "cache").glob(f"*/{key}*"):
            plan.drop(note)
        for link in (plan.data / "steps").glob(f"shards-*/_frames/{key}.parquet"):
            plan.drop(link)
    store, gone = MediaStore(store_of(plan.data)), set(media)
    for name in store.notes("urls") if gone else ():
        if orjson.loads(store.note(name) or b"{}").get("key") in gone:
            plan.refuse.append(name)


def _stage_tombstones(plan: Plan, chosen: Selector, exclusive: Mapping[str, Sequence[str]], reason: str) -> None:
    ids = set(exclusive)
    content, origins = selector.content_keys(plan.data, ids), selector.origins(plan.data, ids)
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    asked_by_place = chosen.by in {"origin", "url"}
    fresh = [
        {
            "id": name,
            "content_key": content.get(name),
            "media": list(exclusive[name]),
            "origin": tombstones.hashed(origins[name]) if asked_by_place and name in origins else None,
            "reason": reason,
            "time": when,
        }
        for name in sorted(ids)
    ]
    target = plan.data / tombstones.FILE
    plan.staged(target).write_bytes(tombstones.merged(plan.data, fresh))
