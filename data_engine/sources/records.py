"""Rows of `.jsonl`, `.json` (one array) and `.parquet` files, in units that can be read on their own.

Listing never parses: a unit of an uncompressed `.jsonl` is a range of bytes cut at line ends, one of a
`.json` a range cut between two elements of its array, one of a `.parquet` a row group; a gzip is one unit.

Where a row is: `file.jsonl:7` (lines from 1) in a file's first unit and in a gzip; `file.jsonl@1048599`
(its first byte, from 0) in later units; `file.json[16]` and `file.parquet[16]` (rows from 0).
"""

import os
import re
import zlib
from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from data_engine.sources.common import MAX_RECORD, RecordError, files, folder_of, open_binary, path_of
from data_engine.sources.json_array import Elements

SUFFIXES = frozenset({".jsonl", ".json", ".parquet"})
CHUNK = 1 << 20
_BOM = b"\xef\xbb\xbf"
_ROWS = 1000
_SPAN = re.compile(r"@\d+-\d+(#\d+)?$")

Row = tuple[str, dict[str, Any] | RecordError]
"""Where a row is, and the row or what is wrong with it."""


def units(root: Path, unit_bytes: int) -> list[str]:
    """`file.jsonl@0-524288`, `file.json@1-524288#0` (its first row), `file.parquet#group=0`, `file.jsonl.gz`."""
    found: list[str] = []
    for name in files(root, SUFFIXES):
        path = folder_of(root) / name
        if path.suffix.lower() == ".gz" or not os.access(path, os.R_OK):
            found.append(name)
        elif path.suffix.lower() == ".jsonl":
            found += [f"{name}@{start}-{end}" for start, end in line_ranges(path, unit_bytes)]
        elif path.suffix.lower() == ".json":
            found += [f"{name}@{start}-{end}#{row}" for start, end, row in _array_ranges(path, unit_bytes)]
        else:
            found += [f"{name}#group={group}" for group in range(_num_groups(path))]
    return found


def rows(root: Path, unit: str, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a unit; `columns` are those read from a Parquet file, where it has them."""
    if "#group=" in unit:
        name, _, group = unit.rpartition("#group=")
        yield from _parquet_rows(path_of(root, name), name, int(group), columns)
    elif not _SPAN.search(unit):
        yield from _whole(path_of(root, unit), unit)
    else:
        name, _, span = unit.rpartition("@")
        span, _, row = span.partition("#")
        start, end = (int(number) for number in span.split("-"))
        with (path_of(root, name)).open("rb") as stream:
            stream.seek(start)
            if row:
                yield from _array_rows(stream, end - start, name, start, int(row))
            else:
                yield from _line_rows(stream, end - start, name, start)


def line_ranges(path: Path, unit_bytes: int) -> list[tuple[int, int]]:
    """Ranges of about `unit_bytes` bytes that begin and end with a line; reads only around the cuts."""
    size = path.stat().st_size
    cuts = [0]
    with path.open("rb") as stream:
        while (target := cuts[-1] + unit_bytes) < size:
            cuts.append(_line_start(stream, target, size))
    if cuts[-1] < size or size == 0:
        cuts.append(size)
    return list(pairwise(cuts))


def _line_start(stream: BinaryIO, at: int, size: int) -> int:
    """The first line that begins at or behind `at`; `size` if there is none."""
    stream.seek(at - 1)
    position = at - 1
    while chunk := stream.read(1 << 16):
        if (found := chunk.find(b"\n")) >= 0:
            return position + found + 1
        position += len(chunk)
    return size


def _array_ranges(path: Path, unit_bytes: int) -> list[tuple[int, int, int]]:
    """(start, end, index of the first row); an empty or foreign file is one range that says so when read."""
    found, size = [], path.stat().st_size
    begin, first = 0, 0
    with path.open("rb") as stream:
        for index, (at, _, _) in enumerate(Elements(stream)):
            if at - begin >= unit_bytes:
                found.append((begin, at, first))
                begin, first = at, index
    return [*found, (begin, size, first)]


def _num_groups(path: Path) -> int:
    """At least 1, so that a damaged or empty file is met when it is read."""
    try:
        return max(1, int(pq.ParquetFile(path).num_row_groups))
    except (pa.ArrowException, OSError):
        return 1


def _whole(path: Path, name: str) -> Iterator[Row]:
    """A gzip's rows; what comes before a damage is kept."""
    count = 0
    read = _array_rows if name.lower().endswith(".json.gz") else _line_rows
    if path.stat().st_size == 0:
        yield name, RecordError("file", "empty file")
        return
    try:
        with open_binary(path) as stream:
            for row in read(stream, None, name, 0):
                yield row
                count += 1
    except (OSError, EOFError, zlib.error) as error:
        yield f"{name} after {count} rows", RecordError("file", f"cannot be read: {error}")


def _line_rows(stream: BufferedIOBase, size: int | None, name: str, start: int) -> Iterator[Row]:
    number = at = 0
    found = False
    for number, (at, line, length) in enumerate(_lines(stream, size), start=1):
        where = f"{name}@{start + at}" if start else f"{name}:{number}"
        if line is None:
            found = True
            yield where, RecordError("json", f"line of {length:,} bytes; the limit is {MAX_RECORD:,}")
        elif line and not line.isspace():
            found = True
            yield where, parse(line.removeprefix(_BOM) if at == start == 0 else line)
    if not found and not start:
        yield name, RecordError("file", "holds no row" if number else "empty file")


def _lines(stream: BufferedIOBase, size: int | None) -> Iterator[tuple[int, bytes | None, int]]:
    """(offset, line without its end or None if over MAX_RECORD, its length); memory stays bounded."""
    held, at = b"", 0
    dropped = 0
    while chunk := stream.read1(CHUNK if size is None else min(CHUNK, size)):
        size = None if size is None else size - len(chunk)
        *whole, rest = chunk.split(b"\n")
        if whole:
            for line in (held + whole[0], *whole[1:]):
                length = len(line) + dropped
                yield at, line if length <= MAX_RECORD else None, length
                at, dropped = at + length + 1, 0
            held = rest
        else:
            held += rest
        if len(held) > MAX_RECORD or dropped:
            dropped, held = dropped + len(held), b""
    if held or dropped:
        yield at, None if dropped else held, len(held) + dropped


def _array_rows(stream: BufferedIOBase, size: int | None, name: str, start: int, first: int = 0) -> Iterator[Row]:
    elements = Elements(stream, size, inside=start > 0)
    blank = 0
    index = first - 1
    for index, (_, data, length) in enumerate(elements, start=first):
        where = f"{name}[{index}]"
        if data is None:
            yield where, RecordError("json", f"row of {length:,} bytes; the limit is {MAX_RECORD:,}")
        elif data.strip():
            yield where, parse(data)
        else:
            blank += 1
    only = start == 0 and index <= 0
    if not elements.began:
        begins = f"must hold an array of rows, begins with {elements.tail!r}" if elements.tail else "empty file"
        yield name, RecordError("json", begins)
    elif blank:
        yield name, RecordError("json", "empty array" if only else f"{blank} commas with no row before or behind them")
    elif elements.closed and elements.tail.strip():
        yield name, RecordError("json", f"more after the array's end: {elements.tail[:20]!r}")
    elif not elements.closed and not stream.read(1):
        yield name, RecordError("json", f"truncated: the array does not end; {index + 1} rows were met")


def _parquet_rows(path: Path, name: str, group: int, columns: Sequence[str]) -> Iterator[Row]:
    if path.stat().st_size == 0:
        yield name, RecordError("file", "empty file")
        return
    try:
        file = pq.ParquetFile(path)
        wanted = [column for column in file.schema_arrow.names if column in columns]
        number = sum(file.metadata.row_group(index).num_rows for index in range(group))
        if file.metadata.num_rows == 0:
            yield name, RecordError("file", "holds no row")
            return
        for batch in file.iter_batches(_ROWS, row_groups=[group], columns=wanted):
            for row in _python_rows(batch):
                yield f"{name}[{number}]", row
                number += 1
    except (pa.ArrowException, OSError) as error:
        yield name, RecordError("file", f"cannot be read: {' '.join(str(error).split())}")


def _python_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | RecordError]:
    """Rows without their nulls; a row whose strings are not UTF-8 costs only itself."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            yield RecordError("text", f"not UTF-8 at byte {error.start}")
        else:
            for index in range(batch.num_rows):
                yield from _python_rows(batch.slice(index, 1))


def parse(data: bytes) -> dict[str, Any] | RecordError:
    """One JSON object, or what is wrong with it."""
    try:
        row = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return _explain(data, error)
    if not isinstance(row, dict):
        return RecordError("json", f"a row must be an object, not a {type(row).__name__}")
    return row


def _explain(data: bytes, error: orjson.JSONDecodeError) -> RecordError:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as fault:
        return RecordError("json", f"not UTF-8 at byte {fault.start}")
    if (nul := data.find(b"\0")) >= 0:
        return RecordError("json", f"NUL byte at byte {nul}")
    return RecordError("json", f"not JSON at column {error.colno}: {error.msg}")
