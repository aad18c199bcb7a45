"""Tables of addresses and captions as LAION, DataComp and Coyo publish them: `.parquet`, `.csv`, `.tsv`.

Columns, in any of these spellings: `url` `URL`; `caption` `TEXT` `text` `alt_text`; and where there are, `sha256` or
`md5` (a download must have it), `width` and `height` (it must have these), `licence` `license`. Others are ignored.

What was downloaded, and what is refused for good, is noted in the store under the address: a run that is
interrupted, or repeated, asks for neither again. For time-outs and servers' faults see `UrlOptions.attempt`.
"""

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from data_engine.media import MediaError, MediaStore, decode_image
from data_engine.recipe import Source
from data_engine.sample import Media, Sample
from data_engine.sources import delimited
from data_engine.sources.captions import caption_messages
from data_engine.sources.common import (
    Quarantined,
    RecordError,
    clean_text,
    files,
    folder_of,
    make_sample,
    parse_options,
    path_of,
    put_image_bytes,
    quarantining,
)
from data_engine.sources.fetch import FetchError, Manners, shared

SPELLINGS = {
    "url": ("url", "URL"),
    "caption": ("caption", "TEXT", "text", "alt_text"),
    "sha256": ("sha256", "SHA256"),
    "md5": ("md5", "MD5"),
    "width": ("width", "WIDTH"),
    "height": ("height", "HEIGHT"),
    "licence": ("licence", "license", "LICENSE"),
}
REQUIRED = [SPELLINGS["url"], SPELLINGS["caption"]]

Row = dict[str, Any]


class UrlOptions(Manners):
    """Besides the manners: `workers` downloads at a time, and `unit_rows` of a Parquet file read together.

    `attempt`: a higher number makes the next run read the tables anew, which asks again for what gave no answer.
    """

    workers: int = Field(default=16, ge=1, le=256)
    unit_rows: int = Field(default=1000, ge=1)
    attempt: int = Field(default=1, ge=1)


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """Ranges of rows of a Parquet file's row group, `file.parquet#group=0@0-1000`; any other file whole."""
    size = parse_options(UrlOptions, options, "urls").unit_rows
    found = []
    for name in files(root, {".parquet", ".csv", ".tsv"}):
        if not name.lower().endswith(".parquet"):
            found.append(name)
            continue
        for group, count in enumerate(_group_sizes(folder_of(root) / name)):
            spans = range(0, max(1, count), size)
            found += [f"{name}#group={group}@{start}-{min(start + size, count)}" for start in spans]
    return found


@quarantining
def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """A captioned image per row, in the table's order; each refusal is told by its row, field and reason."""
    options = parse_options(UrlOptions, source.options, "urls")
    waiting: deque[tuple[str, Row | RecordError, Future[str] | None]] = deque()
    with ThreadPoolExecutor(options.workers) as pool:
        try:
            for where, row in _rows(root, unit):
                asked = None if isinstance(row, RecordError) else pool.submit(_download, row, options, store)
                waiting.append((where, row, asked))
                if len(waiting) > 4 * options.workers:
                    yield _result(*waiting.popleft(), corpus, source)
            while waiting:
                yield _result(*waiting.popleft(), corpus, source)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _result(
    where: str, row: Row | RecordError, asked: "Future[str] | None", corpus: str, source: Source
) -> Sample | Quarantined:
    try:
        if isinstance(row, RecordError):
            raise row
        assert asked is not None
        caption = clean_text(row.get("caption"), "caption").strip()
        key = asked.result()
    except RecordError as error:
        return error.at(corpus, where)
    licence = row.get("licence")
    own = source.model_copy(update={"licence": licence}) if isinstance(licence, str) and licence.strip() else source
    return make_sample(corpus, own, caption_messages(caption, row["url"]), [Media("image", key)], origin=where)


def _download(row: Row, options: UrlOptions, store: MediaStore) -> str:
    """The key of the row's image, from the store if it was downloaded before. Raises RecordError."""
    clean_text(row.get("caption"), "caption")
    url = clean_text(row.get("url"), "url").strip()
    note = f"urls/{hashlib.sha256(url.encode('utf-8', 'surrogatepass')).hexdigest()}"
    known = orjson.loads(store.note(note) or b"{}")
    if known.get("refused"):
        raise RecordError(known["field"], known["refused"])
    if known.get("key") and store.has(known["key"]):
        _check(row, known["sha256"], known["md5"], (known["width"], known["height"]))
        return str(known["key"])
    try:
        found = _fetch(url, options, store)
    except RecordError as error:
        # A refusal that depends on the recipe, or on the day, is not for ever.
        if not isinstance(error, FetchError) or error.lasting:
            store.put_note(note, orjson.dumps({"url": url, "field": error.field, "refused": str(error)}))
        raise
    store.put_note(note, orjson.dumps({"url": url, **found}))
    _check(row, found["sha256"], found["md5"], (found["width"], found["height"]))
    return str(found["key"])


def _fetch(url: str, options: UrlOptions, store: MediaStore) -> Row:
    """Downloads, decodes (whatever the server calls it) and stores an image. Raises RecordError."""
    data = shared(Manners(**{name: getattr(options, name) for name in Manners.model_fields})).fetch(url)
    try:
        height, width, _ = decode_image(data).shape
    except MediaError as error:
        raise RecordError("image", f"{error}; begins with {data[:12]!r}") from error
    digests = {"sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data, usedforsecurity=False).hexdigest()}
    return {"key": put_image_bytes(data, store), "width": width, "height": height, **digests}


def _check(row: Row, sha256: str, md5: str, size: tuple[int, int]) -> None:
    """The download must be what the table was made from. Raises RecordError."""
    for name, found in (("sha256", sha256), ("md5", md5)):
        wanted = row.get(name)
        if isinstance(wanted, str) and wanted.strip() and wanted.strip().lower() != found:
            raise RecordError(name, f"is {found}, the table says {wanted.strip()}: the image has changed")
    for name, pixels in zip(("width", "height"), size, strict=True):
        wanted = str(row.get(name) or "").removesuffix(".0")
        if wanted.isdigit() and int(wanted) not in {0, pixels}:
            raise RecordError(name, f"is {pixels}, the table says {wanted}: the image has changed")


def _rows(root: Path, unit: str) -> Iterator[tuple[str, Row | RecordError]]:
    name, mark, span = unit.rpartition("#group=")
    if mark:
        group, _, ends = span.partition("@")
        start, end = map(int, ends.split("-"))
        yield from _parquet_rows(path_of(root, name), name, int(group), start, end)
        return
    for where, row in delimited.rows(path_of(root, unit), unit, REQUIRED):
        yield where, row if isinstance(row, RecordError) else _named(row)


def _named(row: Row) -> Row:
    """The row under our own names: the first spelling that it has."""
    return {ours: next((row[name] for name in names if name in row), None) for ours, names in SPELLINGS.items()}


def _group_sizes(path: Path) -> list[int]:
    """Rows of each row group; one group of none for a file that is empty or damaged: reading says so."""
    try:
        data = pq.ParquetFile(path).metadata
        return [data.row_group(index).num_rows for index in range(data.num_row_groups)] or [0]
    except (pa.ArrowException, OSError):
        return [0]


def _parquet_rows(path: Path, name: str, group: int, start: int, end: int) -> Iterator[tuple[str, Row | RecordError]]:
    try:
        status = path.stat()
        table, before = _group(path, group, status.st_size, status.st_mtime_ns)
    except (pa.ArrowException, OSError) as error:
        yield name, RecordError("file", f"cannot be read: {' '.join(str(error).split())}")
        return
    if missing := [" or ".join(names) for names in REQUIRED if not set(names) & set(table.column_names)]:
        yield name, RecordError("file", f"has no column {', '.join(missing)}")
    elif end == 0:
        yield name, RecordError("file", "holds no row")
    else:
        for index in range(start, end):
            try:
                (row,) = table.slice(index, 1).to_pylist()
                yield f"{name}[{before + index}]", _named(row)
            except UnicodeDecodeError as error:
                yield f"{name}[{before + index}]", RecordError("text", f"not UTF-8 at byte {error.start}")


@lru_cache(maxsize=1)
def _group(path: Path, group: int, size: int, modified: int) -> tuple[Any, int]:  # noqa: ARG001 - keys of the cache
    """A row group's columns that we read, and how many rows come before it; kept for the units to come."""
    file = pq.ParquetFile(path)
    wanted = {spelling for names in SPELLINGS.values() for spelling in names}
    columns = [column for column in file.schema_arrow.names if column in wanted]
    before = sum(file.metadata.row_group(index).num_rows for index in range(group))
    return file.read_row_group(group, columns) if file.num_row_groups else file.read(columns), before
