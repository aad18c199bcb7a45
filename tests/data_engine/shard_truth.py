"""What is true of shards, told from the shards' own indexes and bytes."""

from pathlib import Path

import pyarrow.parquet as pq

from data_engine.shard_index import Index, Source


def same_as_the_shards(index: Index, folder: Path, split: str) -> None:
    """The index of a split says, row for row, what those of its shards say."""
    tars = sorted(folder.glob(f"{split}-*.tar"))
    assert index.shards == tuple(tar.name for tar in tars)
    rows = [
        (number, row)
        for number, tar in enumerate(tars)
        for row in pq.read_table(tar.with_suffix(".index.parquet")).to_pylist()
    ]
    assert len(index) == len(rows)
    for place, (shard, row) in enumerate(rows):
        assert (index.shard[place], index.id(place)) == (shard, row["id"])
        assert index.sources[index.source[place]] == Source(row["modality"], row["corpus"])
        for name in ("tokens", "visual_tokens", "pictures", "squared_patches", "offset", "size", "xxh3"):
            assert getattr(index, name)[place] == row[name], (place, name)
