"""Near-duplicate texts: MinHash-LSH proposes buckets, the true Jaccard similarity of shingles decides in them.

No shuffle and no index in memory: each part of the samples is signed on its own; a band is then read as one column
from all signatures and sorted, and gives the rows that share a bucket; only the shingles of those are made again.
A bucket is compared by itself and leaves the pairs that join its similar texts, one less than texts at most, so
that no list of candidates is ever held. Peak memory is known before it starts and bounded by `memory_mb`: a band
that would need more is taken in ranges of its hash values.
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
import pyarrow.parquet as pq
import xxhash
from pydantic import Field, model_validator

from data_engine import tables
from data_engine.curation import Curation
from data_engine.dedup import minhash_kernels as kernels
from data_engine.dedup.components import flatten, join_all
from data_engine.dedup.minhash_signatures import sign_parts, texts_of
from data_engine.dedup.rows import Drops, Part, Rows
from data_engine.media import write_atomic
from data_engine.words import tables as word_tables
from data_engine.words import text_buffers
from strict_yaml import Strict

Ints = npt.NDArray[np.int64]
_BYTES_PER_ROW = 64  # while a range of a band is sorted or compared: hashes or rows, their order, and both once more
_TOGETHER, _SMALL = 5, 64  # up to so many ranges are one unit of work if that takes no more MiB than this


class MinHash(Strict):
    """Texts whose sets of word n-grams overlap by `threshold` or more (Jaccard) are one; the first is kept.

    128 permutations are cut into bands so that a pair exactly at the threshold is found with `min_recall`. Texts
    are compared only where the pictures beside them are the same.
    """

    threshold: float = Field(default=0.8, gt=0, lt=1)
    ngram: int = Field(default=5, ge=1)
    permutations: int = Field(default=128, ge=16)
    min_recall: float = Field(default=0.9995, gt=0, lt=1)
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


def find(rows: Rows, config: MinHash, this: Curation, folder: Path) -> Drops:
    """All rows that are near-duplicates of an earlier one: the components of the pairs that are similar enough."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    signatures = sign_parts(rows, config, this, folder, scratch)
    needed = _share_buckets(rows, signatures, config, this, folder, scratch)
    if len(needed):
        _make_sets(rows, needed, config, this, scratch)
        _compare(config, this, folder, scratch)
    parent = np.arange(len(rows), dtype=np.int64)
    for file in tables.parts(folder / "joined" / "edges"):
        edges = pq.read_table(file)
        join_all(parent, edges["first"].to_numpy().astype(np.int64), edges["second"].to_numpy().astype(np.int64))
    _clear(scratch)
    keeper = flatten(parent)
    dropped = np.flatnonzero(keeper != np.arange(len(rows)))
    return Drops.duplicates(dropped, keeper[dropped])


def _clear(scratch: Path) -> None:
    """All of it at once, so that a run that ends here finds nothing half done."""
    gone = scratch.with_name(".cleared")
    shutil.rmtree(gone, ignore_errors=True)
    scratch.rename(gone)
    shutil.rmtree(gone)


def memory_plan(num_rows: int, memory_mb: int) -> tuple[int, int, int]:
    """(ranges of hash values in which a band is taken, how many of them a unit of work has, its MiB), before any work.

    A bucket is in one range: n copies of one text take 64 n bytes whatever the ranges. Besides, 2 MiB of sketches.
    """
    assert num_rows < 1 << 32
    ranges = max(1, -(-num_rows * _BYTES_PER_ROW // (memory_mb << 20)))
    need = -(-num_rows * _BYTES_PER_ROW // ranges)
    together = max(1, min(_TOGETHER, (_SMALL << 20) // max(need, 1)))
    return ranges, together, -(-need * together >> 20)


def _share_buckets(
    rows: Rows, signatures: Sequence[Path], config: MinHash, this: Curation, folder: Path, scratch: Path
) -> Ints:
    """Writes the buckets of two rows or more, band by band and range by range. Returns the rows in any of them."""
    np.save(scratch / "alive.npy", rows.alive)
    ranges, together, need = memory_plan(len(rows), config.memory_mb)
    plan = {"rows": len(rows), "bands": config.layout[0], "ranges": ranges, "mib_a_worker": need}
    write_atomic(folder / "memory.json", json.dumps(plan).encode())
    cells = [(band, part) for band in range(config.layout[0]) for part in range(ranges)]
    units = pa.table({"band": [band for band, _ in cells], "range": [part for _, part in cells]})
    work = functools.partial(_bucket_partition, signatures=signatures, alive=scratch / "alive.npy", ranges=ranges)
    this.partitions(f"minhash buckets, {need:,} MiB each", work, units, together, scratch, "spark")
    shared = np.zeros(len(rows), bool)
    for file in tables.parts(scratch / "buckets"):
        shared[pq.read_table(file, columns=["row"])["row"].to_numpy()] = True
    return np.flatnonzero(shared)


def _bucket_partition(units: pa.Table, *, signatures: Sequence[Path], alive: Path, ranges: int) -> dict[str, pa.Table]:
    """Rows by bucket, those of one by rising number; buckets are numbered, and those of one row left out."""
    found, used = [], 0
    for band, part in zip(units["band"].to_pylist(), units["range"].to_pylist(), strict=True):
        values, rows = _band_values(signatures, f"b{band:02d}", np.load(alive, mmap_mode="r"), part, ranges)
        order = np.argsort(values, kind="stable")
        values = values[order]
        first = np.concatenate([[True], values[1:] != values[:-1]])[: len(values)]
        shared = ~(first & np.concatenate([first[1:], [True]])[: len(values)])
        found.append(pa.table({"row": rows[order[shared]], "bucket": np.cumsum(first)[shared] + used}))
        used += int(first.sum())
    return {"buckets": pa.concat_tables(found)}


def _band_values(
    signatures: Sequence[Path], name: str, alive: npt.NDArray[np.bool_], part: int, ranges: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    """The bucket hashes of one band, in one range of values, of rows that are alive and have words."""
    values, numbers, start = [np.empty(0, np.uint64)], [np.empty(0, np.uint32)], 0
    for file in signatures:
        found = pq.ParquetFile(file).read(columns=[name])[name].to_numpy()
        chosen = alive[start : start + len(found)] & (found != 0) & (found % np.uint64(ranges) == part)
        values.append(found[chosen])
        numbers.append((np.flatnonzero(chosen) + start).astype(np.uint32))
        start += len(found)
    return np.concatenate(values), np.concatenate(numbers)


def _make_sets(rows: Rows, needed: Ints, config: MinHash, this: Curation, scratch: Path) -> None:
    """Leaves the shingle sets of the rows that share a bucket as one file, and where each begins and ends in it."""
    np.save(scratch / "needed.npy", needed)
    holding = np.flatnonzero(np.diff(np.searchsorted(needed, rows.start)))
    units = pa.table({"part": pa.array(holding, pa.int32())})
    out = scratch / "shingles"
    work = functools.partial(
        _sets_partition, parts=rows.parts, start=rows.start, needed=scratch / "needed.npy", config=config, out=out
    )
    this.partitions("minhash shingles", work, units, 1, out, "spark")
    _gather([out / f"{part:05d}.u64" for part in holding], scratch / "sets.u64")
    sizes = tables.read(out / "sizes")["size"].to_numpy()
    np.save(scratch / "bounds.npy", np.concatenate([[0], np.cumsum(sizes)]))


def _gather(files: Sequence[Path], whole: Path) -> None:
    """Makes one file of all, or none if this is cut short."""
    if not whole.exists():
        partial = whole.with_suffix(".partial")
        with partial.open("wb") as target:
            for file in files:
                with file.open("rb") as source:
                    shutil.copyfileobj(source, target)
        partial.replace(whole)
    for file in files:
        file.unlink(missing_ok=True)


def _sets_partition(
    units: pa.Table, *, parts: Sequence[Part], start: Ints, needed: Path, config: MinHash, out: Path
) -> dict[str, pa.Table]:
    """The shingle sets of a part's texts that share a bucket: a flat file, to be mapped, and their sizes."""
    part = units["part"][0].as_py()
    rows = np.load(needed, mmap_mode="r")
    low, high = np.searchsorted(rows, start[part : part + 2])
    data, offsets = text_buffers(texts_of(parts[part], config, np.asarray(rows[low:high] - start[part])))
    sets, ends = kernels.shingle_sets(data, offsets, *word_tables(), config.ngram)
    write_atomic(out / f"{part:05d}.u64", sets.tobytes())
    return {"sizes": pa.table({"size": np.diff(ends, prepend=0)})}


def _compare(config: MinHash, this: Curation, folder: Path, scratch: Path) -> None:
    """Joins the similar texts of every bucket."""
    work = functools.partial(_compare_partition, scratch=scratch, threshold=config.threshold, reach=kernels.REACH)
    buckets = tables.parts(scratch / "buckets")
    this.over_parts("minhash comparisons", work, buckets, folder / "joined", "spark")


def _compare_partition(units: pa.Table, *, scratch: Path, threshold: float, reach: int) -> dict[str, pa.Table]:
    name = units["part"][0].as_py()
    found = pq.read_table(scratch / "buckets" / name)
    starts = np.flatnonzero(np.diff(found["bucket"].to_numpy(), prepend=0, append=0))
    rows, members = np.unique(found["row"].to_numpy(), return_inverse=True)
    del found
    place = np.searchsorted(np.load(scratch / "needed.npy", mmap_mode="r"), rows)
    sets, bounds = np.memmap(scratch / "sets.u64", np.uint64, "r"), np.load(scratch / "bounds.npy", mmap_mode="r")
    begin, end = bounds[place], bounds[place + 1]
    del place
    edges, parent = np.empty((len(rows), 2), np.uint32), np.arange(len(rows))
    sketches = np.empty((reach + 1, kernels.MOST_WORDS), np.uint64)
    salt = np.uint64(xxhash.xxh3_64_intdigest(name.encode()))
    count = kernels.join_buckets(members, starts, sets, begin, end, threshold, reach, salt, parent, sketches, edges)
    return {"edges": pa.table({"first": rows[edges[:count, 0]], "second": rows[edges[:count, 1]]})}
