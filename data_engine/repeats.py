"""How often each sample comes in a pass over its corpus: a table that a schedule (of chains of thought) writes."""

import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine.shard_index import binary_ids

MOST = 255


def read(path: str) -> pa.Table:
    """A table of `id` (24 hex digits) and `repeats`, from Parquet or JSON lines, on a disk or where fsspec finds it.

    Raises ValueError naming the file and what is wrong with it.
    """
    try:
        content = _content(path)
    except FileNotFoundError as error:
        raise ValueError(
            f"{path}: no table of repeats there; mixture.repeats names one, relative to the recipe"
        ) from error
    try:
        if path.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(content))
        else:
            table = pa.Table.from_pylist([json.loads(line) for line in content.decode().splitlines() if line])
        table = table.select(["id", "repeats"])
        counts = table["repeats"].to_numpy()
    except (KeyError, ValueError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path}: not a table of `id` and `repeats` (Parquet or JSON lines): {error}") from error
    if len(counts) and (counts.min() < 0 or counts.max() > MOST or (counts % 1 != 0).any()):
        raise ValueError(f"{path}: repeats must be whole numbers from 0 to {MOST}")
    if len(table) != pc.count_distinct(table["id"]).as_py():
        raise ValueError(f"{path}: an id comes twice; give each sample one number of repeats")
    return table


def _content(path: str) -> bytes:
    if "://" not in path:
        return Path(path).read_bytes()
    import fsspec  # type: ignore[import-untyped]

    content: bytes = fsspec.core.url_to_fs(path)[0].cat_file(path)
    return content


def of_samples(table: pa.Table, ids: pa.FixedSizeBinaryArray, where: str) -> npt.NDArray[np.uint8]:
    """The repeats of samples by id; 1 for those that the table leaves out. Raises ValueError if it knows none."""
    try:
        known = binary_ids(table["id"].to_pylist())
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    place = pc.index_in(ids, known)
    if place.null_count == len(ids):
        raise ValueError(f"{where}: none of its {len(table)} ids is a sample of this pool; is it of another run?")
    counts = np.append(table["repeats"].to_numpy(), 1).astype(np.uint8)
    repeats: npt.NDArray[np.uint8] = counts[pc.fill_null(place, len(table)).to_numpy()]
    return repeats
