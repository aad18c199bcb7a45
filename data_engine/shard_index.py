"""The index of a split's shards as one file of columns, mapped into memory: opening costs the same at any size.

Each shard has an index of its own beside it, in Parquet, for people and queries. This one is what streams read: numbers
alone, so that ten million samples are 580 MB of which an order needs the 60 MB of `source` and `tokens`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_engine.media import incoming
from data_engine.sample import Modality

SCHEMA = pa.schema(
    [
        ("source", pa.uint16()),
        ("tokens", pa.int32()),
        ("visual_tokens", pa.int32()),
        ("pictures", pa.int32()),
        ("squared_patches", pa.int64()),
        ("shard", pa.uint32()),
        ("offset", pa.int64()),
        ("size", pa.int32()),
        ("xxh3", pa.uint64()),
        ("id", pa.binary(12)),
    ]
)


@dataclass(frozen=True, slots=True)
class Source:
    """One corpus within a modality: what `Index.source` counts."""

    modality: Modality
    corpus: str


@dataclass(frozen=True, slots=True)
class Index:
    """A split's samples, by number; arrays of one entry a sample.

    `source`, `shard`: numbers into `sources`, `shards` (file names). `tokens`: of the model, all together;
    `visual_tokens`: those of pictures. `pictures`: images and frames. `squared_patches`: sum over pictures of the
    square of each one's patches, what attention within them costs. `offset`, `size`, `xxh3`: the sample's byte range in
    its shard, and its checksum.
    """

    sources: tuple[Source, ...]
    shards: tuple[str, ...]
    source: npt.NDArray[np.uint16]
    tokens: npt.NDArray[np.int32]
    visual_tokens: npt.NDArray[np.int32]
    pictures: npt.NDArray[np.int32]
    squared_patches: npt.NDArray[np.int64]
    shard: npt.NDArray[np.uint32]
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int32]
    xxh3: npt.NDArray[np.uint64]
    ids: npt.NDArray[np.void]

    def __len__(self) -> int:
        return len(self.source)

    def id(self, number: int) -> str:
        """The id of a sample: 24 hex digits."""
        return bytes(self.ids[number]).hex()


def path_of(folder: Path, split: str) -> Path:
    return folder / f"{split}.index.arrow"


def write(path: Path, columns: dict[str, Any], sources: Sequence[Source], shards: Sequence[str]) -> None:
    """Publishes the index of a split. `columns`: one array for each name of `SCHEMA`, `id` as 12 bytes each."""
    named = {"sources": json.dumps([[s.modality, s.corpus] for s in sources]), "shards": json.dumps(list(shards))}
    schema = SCHEMA.with_metadata(named)
    batch = pa.record_batch([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=schema)
    with incoming(path) as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(batch)


def read(path: Path) -> Index:
    """Maps the index into memory; columns are loaded as they are touched. Raises ValueError where there is none."""
    if not path.exists():
        raise ValueError(f"{path}: no index of the split; write the shards anew")
    with pa.memory_map(str(path)) as file:
        return _index(pa.ipc.open_file(file).get_batch(0))


def _index(batch: pa.RecordBatch) -> Index:
    told = {name.decode(): json.loads(value) for name, value in batch.schema.metadata.items()}
    arrays = {name: batch[name].to_numpy(zero_copy_only=True) for name in SCHEMA.names if name != "id"}
    ids = np.frombuffer(batch["id"].buffers()[1], dtype="V12", count=len(batch))
    sources = tuple(Source(modality, corpus) for modality, corpus in told["sources"])
    return Index(sources=sources, shards=tuple(told["shards"]), ids=ids, **arrays)
