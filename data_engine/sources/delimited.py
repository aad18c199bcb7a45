"""Rows of `.csv` and `.tsv` files with a header, by their first line; damage is told, not guessed around."""

import csv
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_engine.sources.common import MAX_RECORD, RecordError, open_binary

Cells = dict[str, str]


def rows(path: Path, name: str, required: Sequence[Sequence[str]]) -> Iterator[tuple[str, Cells | RecordError]]:
    """(`file:line`, cells by column, or what is wrong); the line is the first of the row, from 1.

    Of each of `required` the header must have one. The delimiter is told by the file's name.
    """
    csv.field_size_limit(MAX_RECORD)
    delimiter = "\t" if ".tsv" in path.name.lower() else ","
    line = 1
    try:
        with open_binary(path) as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
            table = csv.reader(text, delimiter=delimiter)
            header = next(table, [])
            if missing := [" or ".join(names) for names in required if not set(names) & set(header)]:
                yield name, RecordError("file", f"header lacks {', '.join(missing)}" if header else "empty file")
                return
            line = first = table.line_num + 1
            for cells in table:
                yield f"{name}:{line}", _row(header, cells)
                line = table.line_num + 1
            if line == first:
                yield name, RecordError("file", "holds no row")
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        yield f"{name}:{line}", RecordError("file", f"cannot be read from here on: {error}")


def _row(header: Sequence[str], cells: Sequence[str]) -> Cells | RecordError:
    if len(cells) != len(header):
        return RecordError("row", f"has {len(cells)} cells, the header {len(header)}")
    for name, cell in zip(header, cells, strict=True):
        if not cell.isascii() and any("\udc80" <= char <= "\udcff" for char in cell):
            return RecordError(name, "not UTF-8")
    return dict(zip(header, cells, strict=True))
