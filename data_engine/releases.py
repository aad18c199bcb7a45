"""Releases side by side: what changed from one run to another, and what no release needs any longer."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from data_engine import catalog, holders, removal, tombstones
from data_engine.catalog import CatalogError
from data_engine.media import store_of

NUM_IDS = 5

# One row per corpus and id: a sample found twice is kept if either is. What is in both runs' tables has a reason
# there; what only one run has read is new, gone, or, with one origin, changed.
_DIFF = """
WITH a AS ({earlier}), b AS ({later}),
both_sides AS (
    SELECT coalesce(a.corpus, b.corpus) AS corpus, coalesce(a.id, b.id) AS id, coalesce(a.origin, b.origin) AS origin,
           coalesce(a.source, b.source) AS source,
           a.id IS NOT NULL AS in_a, b.id IS NOT NULL AS in_b, a.reason AS reason_a, b.reason AS reason_b,
           CASE WHEN coalesce(a.kept, false) THEN 'removed' ELSE 'added' END AS change
    FROM a FULL JOIN b ON a.corpus = b.corpus AND a.id = b.id
    WHERE coalesce(a.kept, false) <> coalesce(b.kept, false)
),
placed AS (
    SELECT *, in_a <> in_b AND NOT list_contains($gone, id) AS lone,
           row_number() OVER (PARTITION BY corpus, source, origin, change, in_a <> in_b ORDER BY id) AS place
    FROM both_sides
),
told AS (
    SELECT x.corpus, x.source, x.id,
           CASE WHEN y.id IS NULL THEN x.change ELSE 'changed' END AS change,
           CASE WHEN y.id IS NOT NULL THEN 'same origin, other content'
                WHEN list_contains($gone, x.id) THEN 'tombstone: removed on request'
                WHEN x.change = 'removed' THEN coalesce(x.reason_b, 'no longer read')
                ELSE coalesce('no longer ' || x.reason_a, 'newly read') END AS reason,
           y.id IS NOT NULL AND x.change = 'removed' AS other_half
    FROM placed x LEFT JOIN placed y
      ON x.lone AND y.lone AND x.corpus = y.corpus AND x.source = y.source AND x.origin = y.origin AND x.place = y.place
         AND x.change <> y.change AND x.origin <> ''
)
SELECT corpus, source, change, reason, count(*) AS count, list(id ORDER BY id)[:{num_ids}] AS ids
FROM told WHERE NOT other_half GROUP BY ALL ORDER BY corpus, source, change, count DESC, reason
"""
_SIDE = """
SELECT corpus, id, any_value(source) AS source, any_value(origin) AS origin, bool_or(status = 'kept') AS kept,
       min(operator || ': ' || {kind}) AS reason
FROM ({tables}) GROUP BY corpus, id
"""


def diff(earlier: Path, later: Path) -> list[dict[str, Any]]:
    """What the later run keeps that the earlier did not, and the other way round: by source, change and reason.

    `change` is `added`, `removed`, or `changed` (one origin, other content); `ids` are a few of them, of the later
    run where it is `changed`. Raises CatalogError for a folder without a run.
    """
    query = _DIFF.format(earlier=_side(earlier), later=_side(later), num_ids=NUM_IDS)
    gone = [tomb["id"] for tomb in tombstones.read([later])]
    with duckdb.connect() as connection:
        parameters = {"gone": gone or [""]}
        rows: list[dict[str, Any]] = connection.sql(query, params=parameters).to_arrow_table().to_pylist()
    return rows


def _side(data: Path) -> str:
    named = {name: folder for name, folder in catalog.steps(data).items() if name.startswith("dedup.")}
    if not named:
        raise CatalogError(f"{data}: its run came to no verdicts; run `keyeforge data curate` to its end")
    selects = [
        f"SELECT '{_quoted(name.partition('.')[2])}' AS corpus, id, source, origin, status, operator, reason "
        f"FROM read_parquet('{_quoted(str(folder))}/verdicts/*.parquet')"
        for name, folder in named.items()
        if any((folder / "verdicts").glob("*.parquet"))
    ]
    return _SIDE.format(kind=catalog.REASON_KIND, tables=" UNION ALL ".join(selects))


def _quoted(text: str) -> str:
    return text.replace("'", "''")


@dataclass(frozen=True, slots=True)
class Freed:
    """One thing that was cleared, or would be: a step's folder, a step in progress, or a medium."""

    kind: str
    name: str
    bytes: int


def gc(
    data: Path, keep: Sequence[Path] = (), *, in_progress: bool = False, dry_run: bool = False, now: float
) -> list[Freed]:
    """Clears the steps that no release needs, and media that no sample of the others shows. Returns what went.

    Needed is what run.json, its copies in the folder and the run files in `keep` name, what runs beside this one
    compare with (`against`), and what `DIR/shards`, `release`, `queues` and `tokenizer` show. A step in progress goes
    when it has not been touched for a day, or with `in_progress`; while there is a younger one, media are left alone,
    as are those in an object store.
    Raises CatalogError for a folder without a run or a `keep` that is no run file.
    """
    catalog.steps(data)
    if not dry_run:
        removal.finish(data)
    needed = _needed(data, keep)
    steps = [path for path in sorted((data / "steps").iterdir()) if path.is_dir()]
    finished = [path for path in steps if not path.name.startswith(".") and path.resolve() not in needed]
    waiting = removal.in_progress(data)
    stale = [path for path in waiting if in_progress or removal.age(path, now) >= removal.DAY]
    left = [path for path in steps if path.resolve() in needed]
    media = _unused_media(data, left) if set(stale) == set(waiting) else []
    freed = [Freed("step", path.name, _size(path)) for path in finished]
    freed += [Freed("in progress", path.name[1:], _size(path)) for path in stale]
    freed += [Freed("media", path.name, path.stat().st_size) for path in media]
    if not dry_run:
        _clear(data, [*finished, *stale])
        for path in media:
            path.unlink(missing_ok=True)
    return freed


def _clear(data: Path, folders: Sequence[Path]) -> None:
    """Each folder leaves `steps` by one rename: half a step is never taken for a whole one."""
    trash = data / ".gc"
    trash.mkdir(exist_ok=True)
    for folder in folders:
        shutil.rmtree(trash / folder.name, ignore_errors=True)
        folder.rename(trash / folder.name)
    shutil.rmtree(trash)


def _needed(data: Path, keep: Sequence[Path]) -> set[Path]:
    needed = {(data / folder).resolve() for file in holders.run_files(data) for folder in _named(file)}
    for file in keep:
        if holders.steps_of(file) is None:
            raise CatalogError(f"--keep {file}: not a run file; give a copy of a run.json of {data}")
        needed |= {(data / folder).resolve() for folder in _named(file)}
    links = [data / "shards", data / "release", data / "queues", *(data / "tokenizer").glob("*")]
    shown = [link.resolve() for link in links if link.is_symlink()]
    root = (data / "steps").resolve()
    needed |= {root / path.relative_to(root).parts[0] for path in shown if path.is_relative_to(root)}
    inner = [link.resolve() for step in needed if step.is_dir() for link in step.iterdir() if link.is_symlink()]
    needed |= {root / path.relative_to(root).parts[0] for path in inner if path.is_relative_to(root)}
    told = _told_beside(data)
    return needed | {step for step in root.iterdir() if step.name in told}


def _named(run_file: Path) -> list[str]:
    return list((holders.steps_of(run_file) or {}).values())


def _told_beside(data: Path) -> str:
    """The configs of all steps of the runs beside this one: they name the steps they compare with."""
    files = [file for file in data.resolve().parent.glob("*/run.json") if file.parent != data.resolve()]
    steps = [file.parent / folder / "step.json" for file in files for folder in _named(file)]
    return "\n".join(json.dumps(catalog.record(step.parent)["config"]) for step in steps if step.exists())


def compared_with(data: Path) -> list[Path]:
    """The folders of earlier runs that this run was held against (`against`), those that still are runs."""
    summary = data / "summary.json"
    named = json.loads(summary.read_text()).get("against", []) if summary.is_file() else []
    return [folder for folder in map(Path, named) if (folder / "run.json").is_file()]


def _unused_media(data: Path, steps: Sequence[Path]) -> list[Path]:
    used: set[str] = set()
    for part in (part for step in steps for part in sorted(step.glob("samples/*.parquet"))):
        media: pa.Array = pq.read_table(part, columns=["media"])["media"].combine_chunks()
        used |= set(media.flatten().field("key").unique().to_pylist())
    if (store := store_of(data)) != data / "media":  # an object store may hold what other runs show
        return []
    stored = sorted(path for path in store.glob("[0-9a-f][0-9a-f]/*") if path.is_file())
    return [path for path in stored if path.name not in used]


def _size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
