"""The index of a split's shards as one file of columns, mapped into memory: opening costs the same at any size.

Each shard has an index of its own beside it, in Parquet, for people and queries. This one is what streams read: numbers
alone, so that ten million samples are 580 MB of which an order needs the 60 MB of `source` and `tokens`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

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
    """A split's samples, by number; arrays of one entry a sample. `digest` is a checksum over all of them.

    `source`, `shard`: numbers into `sources`, `shards` (file names). `tokens`: of the model, all together;
    `visual_tokens`: those of pictures. `pictures`: images and frames. `squared_patches`: sum over pictures of the
    square of each one's patches, what attention within them costs. `offset`, `size`, `xxh3`: the sample's byte range in
    its shard, and its checksum.
    """

    sources: tuple[Source, ...]
    shards: tuple[str, ...]
    digest: int
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

    @property
    def binary_ids(self) -> pa.FixedSizeBinaryArray:
        """All ids as Arrow knows them, in the same memory."""
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(12), len(self), [None, pa.py_buffer(self.ids)])

    def id(self, number: int) -> str:
        """The id of a sample: 24 hex digits."""
        return bytes(self.ids[number]).hex()


def path_of(folder: Path, split: str) -> Path:
    return folder / f"{split}.index.arrow"


def write(path: Path, columns: dict[str, Any], sources: Sequence[Source], shards: Sequence[str]) -> None:
    """Publishes the index of a split. `columns`: one array for each name of `SCHEMA`, `id` as 12 bytes each."""
    arrays = [pa.array(columns[field.name], field.type) for field in SCHEMA]
    batch = pa.record_batch(arrays, schema=SCHEMA)
    digested = [batch[name].to_numpy() for name in ("source", "tokens", "xxh3")]
    told = {
        "sources": [[s.modality, s.corpus] for s in sources],
        "shards": list(shards),
        "digest": digest_of(*digested),
    }
    schema = SCHEMA.with_metadata({name: json.dumps(value) for name, value in told.items()})
    with incoming(path) as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(batch.replace_schema_metadata(schema.metadata))


def digest_of(*columns: npt.NDArray[Any]) -> int:
    """Over `source`, `tokens` and `xxh3`: what an order and the bytes behind it are a function of."""
    digest = xxhash.xxh3_64()
    for column in columns:
        digest.update(column.tobytes())
    return digest.intdigest()


TOLD = ["id", "corpus", "modality", *(name for name in SCHEMA.names if name not in {"source", "shard", "id"})]
"""The columns of a shard's own index that go into the split's."""


def write_split(path: Path, indexes: Mapping[str, pa.Table]) -> None:
    """Publishes the index of a split from those of its shards: file name -> columns `TOLD`, in order."""
    whole = pa.concat_tables([index.select(TOLD) for index in indexes.values()])
    sources, source = number_sources(whole)
    columns: dict[str, Any] = {name: whole[name].combine_chunks().cast(SCHEMA.field(name).type)
                               for name in TOLD if name in SCHEMA.names and name != "id"}  # fmt: skip
    columns["id"] = binary_ids(whole["id"].to_pylist())
    columns["source"] = source
    columns["shard"] = np.repeat(np.arange(len(indexes)), [len(index) for index in indexes.values()])
    write(path, columns, sources, list(indexes))


def binary_ids(ids: Sequence[str]) -> pa.FixedSizeBinaryArray:
    """Ids of 24 hex digits as 12 bytes each. Raises ValueError for what is none."""
    content = bytes.fromhex("".join(ids))
    if len(content) != 12 * len(ids):
        wrong = next(name for name in ids if len(name) != 24)
        raise ValueError(f"{wrong!r} is not the id of a sample: 24 hex digits")
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(12), len(ids), [None, pa.py_buffer(content)])


def number_sources(samples: pa.Table) -> tuple[list[Source], npt.NDArray[np.uint16]]:
    """The sources of samples (columns `modality`, `corpus`) in order, and for each sample the number of its own."""
    pairs = pa.table([samples["modality"], samples["corpus"]], ["modality", "corpus"])
    ascending = [("modality", "ascending"), ("corpus", "ascending")]
    sources = [
        Source(**row) for row in pairs.group_by(["modality", "corpus"]).aggregate([]).sort_by(ascending).to_pylist()
    ]
    found = np.zeros(len(samples), np.uint16)
    for number, source in enumerate(sources):
        mine = pc.and_(pc.equal(samples["modality"], source.modality), pc.equal(samples["corpus"], source.corpus))
        found[mine.to_numpy()] = number
    return sources, found


def read(source: Path | bytes) -> Index:
    """The index of a split, from its bytes or a file: that is mapped, and a column loaded as it is touched."""
    with pa.memory_map(str(source)) if isinstance(source, Path) else pa.BufferReader(source) as file:
        return _index(pa.ipc.open_file(file).get_batch(0))


def _index(batch: pa.RecordBatch) -> Index:
    told = {name.decode(): json.loads(value) for name, value in batch.schema.metadata.items()}
    arrays = {name: batch[name].to_numpy(zero_copy_only=True) for name in SCHEMA.names if name != "id"}
    ids = np.frombuffer(batch["id"].buffers()[1], dtype="V12", count=len(batch))
    sources = tuple(Source(modality, corpus) for modality, corpus in told["sources"])
    return Index(sources=sources, shards=tuple(told["shards"]), digest=told["digest"], ids=ids, **arrays)
