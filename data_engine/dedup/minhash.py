"""Near-duplicate texts: MinHash-LSH proposes pairs, the true Jaccard similarity of their shingles decides.

No shuffle and no index in memory: each part of the samples is signed on its own; a band is then read as one column
from all signatures, sorted, and gives the pairs that share a bucket; only the shingles of texts that are in some
pair are made again and compared. Peak memory is known before it starts and bounded by `memory_mb`: a band that
would need more is taken in ranges of its hash values.
"""

import functools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from pydantic import Field, model_validator

from data_engine import tables
from data_engine.curation import Curation
from data_engine.dedup import minhash_kernels as kernels
from data_engine.dedup.components import flatten
from data_engine.dedup.rows import Drops, Part, Rows
from data_engine.describe import SPOKEN, Turns
from data_engine.media import incoming, write_atomic
from data_engine.words import tables as word_tables
from data_engine.words import text_buffers
from strict_yaml import Strict

Ints = npt.NDArray[np.int64]
_BYTES_PER_ROW = 48  # while a band is sorted: hashes, their order, and both once more


class MinHash(Strict):
    """Texts whose sets of word n-grams overlap by `threshold` or more (Jaccard) are one; the first is kept.

    128 permutations are cut into bands so that a pair exactly at the threshold is found with `min_recall`. Texts
    are compared only where the pictures beside them are the same.
    """

    threshold: float = Field(default=0.8, gt=0, lt=1)
    ngram: int = Field(default=5, ge=1)
    permutations: int = Field(default=128, ge=16)
    min_recall: float = Field(default=0.998, gt=0, lt=1)
    text: Literal["all", "target"] = "all"
    memory_mb: int = Field(default=2048, ge=64)

    @property
    def layout(self) -> tuple[int, int]:
        """(bands, rows of a band)."""
        return choose_layout(self.threshold, self.permutations, self.min_recall)

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        _ = self.layout
        return self


def choose_layout(threshold: float, permutations: int, min_recall: float) -> tuple[int, int]:
    """The cut with the fewest chance pairs (most rows a band) that still finds a pair at the threshold.

    A pair of similarity s shares a bucket with probability 1 - (1 - s^rows)^bands (Broder 1997; LSH).
    Raises ValueError where one row a band is not enough.
    """
    for rows in range(permutations, 0, -1):
        bands = permutations // rows
        if 1 - (1 - threshold**rows) ** bands >= min_recall:
            return bands, rows
    raise ValueError(f"min_recall {min_recall} cannot be met at threshold {threshold} with {permutations} permutations")


def sign(text: pa.Array, pictures: npt.NDArray[np.uint64], config: MinHash) -> npt.NDArray[np.uint64]:
    """Bucket hashes [N, bands] of texts; 0 where a text has no word. `pictures` are mixed into every bucket."""
    data, offsets = text_buffers(text)
    bands, rows = config.layout
    factors, terms = _permutations(config.permutations)
    signed: npt.NDArray[np.uint64] = kernels.sign(
        data, offsets, pictures, *word_tables(), config.ngram, bands, rows, factors, terms
    )
    return signed


@functools.cache
def _permutations(count: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Odd factors and terms of the permutations x -> factor * x + term of 32-bit numbers, always the same."""
    random = np.random.default_rng(20250902)
    factors, terms = random.integers(0, 2**32, (2, count), dtype=np.uint32)
    return factors | np.uint32(1), terms


def find(rows: Rows, config: MinHash, this: Curation, folder: Path) -> Drops:
    """All rows that are near-duplicates of an earlier one: the components of the pairs that are similar enough."""
    signatures = _signatures(rows, config, this, folder)
    pairs = _candidates(rows, signatures, config, this, folder)
    parent = np.arange(len(rows), dtype=np.int64)
    _join(parent, rows, pairs, config, this, folder)
    keeper = flatten(parent)
    dropped = np.flatnonzero(keeper != np.arange(len(rows)))
    return Drops.duplicates(dropped, keeper[dropped])


def _signatures(rows: Rows, config: MinHash, this: Curation, folder: Path) -> list[Path]:
    """A table of bucket hashes per part: an earlier release's own, if made alike, else made now."""
    units = pa.table({"part": pa.array(range(len(rows.parts)), pa.int32())})
    work = functools.partial(_sign_partition, parts=rows.parts, config=config)
    this.partitions("minhash signatures", work, units, 1, folder, "spark")
    return tables.parts(folder / "signatures")


def _sign_partition(units: pa.Table, *, parts: Sequence[Part], config: MinHash) -> dict[str, pa.Table]:
    part = parts[units["part"][0].as_py()]
    signed = sign(texts_of(part, config), pictures_of(part), config)
    return {"signatures": pa.table({f"b{band:02d}": signed[:, band] for band in range(signed.shape[1])})}


def texts_of(part: Part, config: MinHash, rows: Ints | None = None) -> pa.Array:
    """The texts that are compared, of all rows of a part or of some."""
    messages = pq.read_table(part.samples, columns=["messages"])["messages"]
    turns = Turns(messages if rows is None else messages.take(pa.array(rows)))
    return turns.joined(None if config.text == "all" else SPOKEN)


def pictures_of(part: Part) -> npt.NDArray[np.uint64]:
    """A hash per row of the pictures it shows."""
    keys = pc.binary_join(pq.read_table(part.measures, columns=["media_keys"])["media_keys"], ",")
    codes = pc.dictionary_encode(keys.combine_chunks())
    hashes = [xxhash.xxh3_64_intdigest(key.encode()) for key in codes.dictionary.to_pylist()]
    shown: npt.NDArray[np.uint64] = np.array(hashes, np.uint64)[codes.indices.to_numpy(zero_copy_only=False)]
    return shown


def _candidates(rows: Rows, signatures: Sequence[Path], config: MinHash, this: Curation, folder: Path) -> Ints:
    """Pairs of rows that share a bucket in some band, each once."""
    np.save(folder / "alive.npy", rows.alive)
    ranges, need = memory_plan(len(rows), config.memory_mb)
    plan = {"rows": len(rows), "bands": config.layout[0], "ranges": ranges, "mib_a_worker": need}
    write_atomic(folder / "memory.json", json.dumps(plan).encode())
    cells = [(band, part) for band in range(config.layout[0]) for part in range(ranges)]
    units = pa.table({"band": [band for band, _ in cells], "range": [part for _, part in cells]})
    work = functools.partial(_band_partition, signatures=signatures, alive=folder / "alive.npy", ranges=ranges)
    this.partitions(f"minhash buckets, {need:,} MiB each", work, units, 1, folder / "buckets", "spark")
    found = tables.read(folder / "buckets" / "pairs")
    packed = np.unique(found["pair"].to_numpy())
    return np.stack([packed >> np.uint64(32), packed & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)


def memory_plan(num_rows: int, memory_mb: int) -> tuple[int, int]:
    """(ranges of hash values in which a band is taken, MiB that sorting one of them takes), before any work."""
    assert num_rows < 1 << 32
    ranges = max(1, -(-num_rows * _BYTES_PER_ROW // (memory_mb << 20)))
    return ranges, -(-num_rows * _BYTES_PER_ROW // ranges >> 20)


def _band_partition(units: pa.Table, *, signatures: Sequence[Path], alive: Path, ranges: int) -> dict[str, pa.Table]:
    band, part = units["band"][0].as_py(), units["range"][0].as_py()
    values, numbers = _band_values(signatures, f"b{band:02d}", np.load(alive), part, ranges)
    order = np.argsort(values, kind="stable")
    pairs = kernels.bucket_pairs(values[order], numbers[order]).astype(np.uint64)
    return {"pairs": pa.table({"pair": np.unique((pairs[:, 0] << np.uint64(32)) | pairs[:, 1])})}


def _band_values(
    signatures: Sequence[Path], name: str, alive: npt.NDArray[np.bool_], part: int, ranges: int
) -> tuple[npt.NDArray[np.uint64], Ints]:
    """The bucket hashes of one band, in one range of values, of rows that are alive and have words."""
    values, numbers, start = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], 0
    for file in signatures:
        found = pq.read_table(file, columns=[name])[name].to_numpy()
        chosen = alive[start : start + len(found)] & (found != 0) & (found % np.uint64(ranges) == part)
        values.append(found[chosen])
        numbers.append(np.flatnonzero(chosen) + start)
        start += len(found)
    return np.concatenate(values), np.concatenate(numbers)


def _join(parent: Ints, rows: Rows, pairs: Ints, config: MinHash, this: Curation, folder: Path) -> None:
    """Joins the pairs whose shingles are similar enough, as many texts at a time as the memory takes."""
    if not len(pairs):
        return
    needed = np.unique(pairs)
    np.save(folder / "needed.npy", needed)
    cut = np.searchsorted(needed, rows.start)
    units = pa.table({"part": pa.array(np.flatnonzero(np.diff(cut)), pa.int32())})
    work = functools.partial(
        _sets_partition, parts=rows.parts, start=rows.start, needed=folder / "needed.npy", config=config, out=folder
    )
    this.partitions("minhash shingles", work, units, 1, folder / "shingles", "spark")
    sets, ends = _gather(folder, [int(part) for part in units["part"].to_pylist()])
    first, second = np.searchsorted(needed, pairs[:, 0]), np.searchsorted(needed, pairs[:, 1])
    kernels.join_similar(parent, pairs[:, 0], pairs[:, 1], first, second, sets, ends, config.threshold)


def _sets_partition(
    units: pa.Table, *, parts: Sequence[Part], start: Ints, needed: Path, config: MinHash, out: Path
) -> dict[str, pa.Table]:
    """The shingle sets of a part's texts that are in some pair, as flat files beside the tables."""
    part = units["part"][0].as_py()
    rows = np.load(needed, mmap_mode="r")
    low, high = np.searchsorted(rows, start[part : part + 2])
    data, offsets = text_buffers(texts_of(parts[part], config, np.asarray(rows[low:high] - start[part])))
    sets, ends = kernels.shingle_sets(data, offsets, *word_tables(), config.ngram)
    with incoming(out / "sets" / f"{part:05d}.u64") as file:
        sets.tofile(file)
    return {"ends": pa.table({"end": ends})}


def _gather(folder: Path, parts: Sequence[int]) -> tuple[npt.NDArray[np.uint64], Ints]:
    """All sets as one array on disk, mapped, and where each ends in it."""
    whole, ends, total = folder / "sets.u64", [np.empty(0, np.int64)], 0
    with whole.open("wb") as target:
        for part, file in zip(parts, tables.parts(folder / "shingles" / "ends"), strict=False):
            found = pq.read_table(file)["end"].to_numpy()
            ends.append(found + total)
            total += int(found[-1]) if len(found) else 0
            with (folder / "sets" / f"{part:05d}.u64").open("rb") as source:
                shutil.copyfileobj(source, target)
    mapped = np.memmap(whole, np.uint64, "r") if total else np.empty(0, np.uint64)
    return mapped, np.concatenate(ends)
