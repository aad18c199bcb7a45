"""Parquet in and out: whole files or none, the same bytes for the same rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_engine.media import incoming


def write(table: pa.Table, path: Path) -> None:
    """Writes one parquet file atomically, with settings fixed so that equal rows give equal bytes."""
    with incoming(path) as file:
        pq.write_table(table, file.name, compression="zstd", row_group_size=4096, store_schema=True)


def parts(folder: Path) -> list[Path]:
    """The parquet parts of a table folder, in order (none: the table is empty)."""
    return sorted(folder.glob("*.parquet"))


def read(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A table folder as one Arrow table. Raises FileNotFoundError if it has no parts."""
    files = parts(folder)
    if not files:
        raise FileNotFoundError(f"{folder}: no parquet parts")
    tables = [pq.read_table(file, columns=list(columns) if columns else None) for file in files]
    return pa.concat_tables(tables, promote_options="default")


def rows(folder: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """A table folder as a list of dicts, empty if there is no such table."""
    result: list[dict[str, Any]] = read(folder, columns).to_pylist() if parts(folder) else []
    return result


def count(folder: Path) -> int:
    """Rows of a table folder, from the parts' footers."""
    return sum(num_rows(file) for file in parts(folder))


def num_rows(file: Path) -> int:
    """Rows of one parquet file, from its footer."""
    rows: int = pq.read_metadata(file).num_rows
    return rows


def write_partitions(table: pa.Table, folder: Path, size: int) -> list[Path]:
    """Cuts a table into parts of `size` rows: partitions depend on content and order, not on a scheduler."""
    starts = range(0, max(table.num_rows, 1), size)
    assert len(starts) <= 100_000, f"{len(starts):,} parts: their names would not sort by number"
    files = [folder / f"part-{index:05d}.parquet" for index in range(len(starts))]
    for start, file in zip(starts, files, strict=True):
        write(table.slice(start, size), file)
    return files
