"""Near-duplicates by meaning: texts or pictures whose embeddings by a checkpoint of yours point the same way.

Vectors are made part by part where models live (Ray), kept as float16 (a cosine is rounded by less than 0.001) and
compared exactly: every pair of `min_cosine` or more is joined (`dedup.neighbours`). That is quadratic: a million texts
of 384 values are 4e14 operations, spread over the runner's workers; a far larger corpus wants `minhash` before it.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from data_engine import tables
from data_engine.curation import Curation
from data_engine.dedup import alike, neighbours, perceptual
from data_engine.dedup.components import components
from data_engine.dedup.minhash_signatures import pictures_of
from data_engine.dedup.rows import Drops, Part, Rows
from data_engine.describe import Turns
from data_engine.media import store_of
from data_engine.models import embedding
from data_engine.runners.needs import checkpoint
from strict_yaml import Strict

Ints = npt.NDArray[np.int64]
_PICTURES = 512  # of a partition


class Semantic(Strict):
    """Texts, or pictures, whose vectors by `model` have a cosine of `min_cosine` or more are one; the first is kept.

    `of: text` compares a sample's whole text, where the pictures beside it are the same; `of: image` drops a sample
    if any of its pictures is a duplicate (videos and their frames are not compared). `memory_mb` is of one worker.
    Scales differ between checkpoints: look at what a threshold drops before believing it.
    """

    model: str
    of: Literal["text", "image"] = "text"
    min_cosine: float = Field(default=0.95, gt=0, lt=1)
    trusted: bool = False
    memory_mb: int = Field(default=2048, ge=64)

    @model_validator(mode="after")
    def _can_embed(self) -> Self:
        embedding.require(self.model, self.of, self.trusted)
        return self

    def reads(self, root: Path) -> list[str]:
        """What else than the rows the pass depends on, as a hash: the model's files."""
        return [embedding.fingerprint(self.model)]


def find(rows: Rows, config: Semantic, this: Curation, folder: Path) -> Drops:
    """All rows that say, or show, what an earlier one does."""
    if config.of == "text":
        _embed_texts(rows, config, this, folder)
        item, keeper = _joined(config, this, folder)
        return Drops.duplicates(item, keeper)
    pictures = perceptual.shown(rows)
    _embed_pictures(rows, pictures, config, this, folder)
    kept = np.arange(len(pictures.keys))
    item, keeper = _joined(config, this, folder)
    kept[item] = keeper
    return perceptual.drops_of(pictures, kept, rows.first_new)


def _embed_texts(rows: Rows, config: Semantic, this: Curation, folder: Path) -> None:
    """`vectors`: row, a hash of the pictures beside it, and the vector of every text still kept."""
    np.save(folder / "alive.npy", rows.alive)
    units = pa.table({"part": pa.array(range(len(rows.parts)), pa.int32())})
    work = functools.partial(
        _texts_partition, parts=rows.parts, start=rows.start, alive=folder / "alive.npy", model=config.model
    )
    this.partitions("semantic vectors", work, units, 1, folder, "ray", checkpoint(config.model))


def _texts_partition(
    units: pa.Table, *, parts: Sequence[Part], start: Ints, alive: Path, model: str
) -> dict[str, pa.Table]:
    number = units["part"][0].as_py()
    kept = np.load(alive, mmap_mode="r")[start[number] : start[number + 1]]
    text = Turns(pq.read_table(parts[number].samples, columns=["messages"])["messages"]).joined()
    row = np.flatnonzero(kept & (pc.binary_length(pc.utf8_trim_whitespace(text)).to_numpy() > 0))
    vectors = embedding.embed_texts(model, text.take(pa.array(row)).to_pylist())
    return {"vectors": _table(row + start[number], pictures_of(parts[number])[row], vectors)}


def _embed_pictures(rows: Rows, pictures: perceptual.Shown, config: Semantic, this: Curation, folder: Path) -> None:
    """`vectors`: the number of a picture, 0 for all are compared, and its vector."""
    still = np.flatnonzero(~pc.is_in(pictures.keys, value_set=alike.moving(rows.parts)).to_numpy(zero_copy_only=False))
    part = np.searchsorted(rows.start, pictures.row[pictures.first[still]], side="right") - 1
    stores = [_store(rows.parts[number], this) for number in part.tolist()]
    listing = pa.table({"item": still, "key": pictures.keys.take(pa.array(still)), "store": stores})
    work = functools.partial(_pictures_partition, model=config.model)
    this.partitions("semantic vectors", work, listing, _PICTURES, folder, "ray", checkpoint(config.model))


def _store(part: Part, this: Curation) -> str:
    """The media store a part's pictures are in: an earlier release's own (DIR/steps/STEP/samples/FILE)."""
    return str(store_of(part.samples.parents[3]) if part.earlier else this.store)


def _pictures_partition(units: pa.Table, *, model: str) -> dict[str, pa.Table]:
    kept = zip(units["key"].to_pylist(), units["store"].to_pylist(), strict=True)
    found = [vectors for _, vectors in alike.stored_pictures(model, [(key, Path(store)) for key, store in kept])]
    vectors = np.concatenate(found) if found else np.empty((0, 0), np.float32)
    return {"vectors": _table(units["item"].to_numpy(), np.zeros(len(units), np.uint64), vectors)}


def _table(item: Ints, group: npt.NDArray[np.uint64], vectors: npt.NDArray[np.float32]) -> pa.Table:
    flat = pa.array(vectors.astype(np.float16).ravel())
    columns = [pa.array(item), pa.array(group), pa.FixedSizeListArray.from_arrays(flat, max(1, vectors.shape[1]))]
    return pa.table(columns, names=["item", "group", "vector"])


def _joined(config: Semantic, this: Curation, folder: Path) -> tuple[Ints, Ints]:
    """(item, the first of those it is joined to), of all items that are not first."""
    item, dim = _gather(folder)
    if len(item) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    rows = neighbours.block_rows(len(item), dim, config.memory_mb)
    units = pa.table({"start": pa.array(range(0, len(item), rows), pa.int64())})
    work = functools.partial(_panel_partition, folder=folder, rows=rows, min_cosine=config.min_cosine)
    this.partitions("semantic neighbours", work, units, 1, folder / "panels", "spark")
    edges = tables.read(folder / "panels" / "edges")
    root = components(len(item), edges["later"].to_numpy(), edges["first"].to_numpy())
    later = np.flatnonzero(root != np.arange(len(root)))
    return item[later], item[root[later]]


def _gather(folder: Path) -> tuple[Ints, int]:
    """Writes vectors.npy and groups.npy, in the order of groups and then of items; returns (items, dim)."""
    files = tables.parts(folder / "vectors")
    narrow = pa.concat_tables([pq.read_table(file, columns=["item", "group"]) for file in files])
    item, group = narrow["item"].to_numpy(), narrow["group"].to_numpy()
    place = np.empty(len(item), np.int64)
    order = np.lexsort((item, group))
    place[order] = np.arange(len(item))
    # A part without items knows no width.
    dim = max((pq.read_schema(file).field("vector").type.list_size for file in files), default=1)
    whole = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, (len(item), dim))
    start = 0
    for file in files:
        vectors = pq.read_table(file, columns=["vector"])["vector"].combine_chunks()
        flat = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), -1)
        if len(flat):
            whole[place[start : start + len(flat)]] = flat
        start += len(flat)
    whole.flush()
    np.save(folder / "groups.npy", group[order])
    return item[order], dim


def _panel_partition(units: pa.Table, *, folder: Path, rows: int, min_cosine: float) -> dict[str, pa.Table]:
    start = units["start"][0].as_py()
    later, first = neighbours.panel_forest(folder / "vectors.npy", folder / "groups.npy", start, rows, min_cosine)
    return {"edges": pa.table({"later": later, "first": first})}
