"""mosaicml-streaming writes and reads pictures: streaming_shards.py OUT ITEMS FOLDER EPOCHS.

It is told to keep an xxh3 of each shard. That is checked when a shard arrives, not when a sample is read.
"""

import sys
from pathlib import Path
from unittest.mock import MagicMock

# Its vision datasets, unused here, import torchvision, of which there is no build for every build of torch.
sys.modules["streaming.vision"] = MagicMock()
from reading import items, measure  # noqa: E402
from streaming import MDSWriter, StreamingDataset  # noqa: E402

out, found, folder, epochs = sys.argv[1], items(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])


def write(target: Path) -> None:
    columns = {"json": "bytes", "jpg": "bytes"}
    with MDSWriter(out=str(target), columns=columns, hashes=["xxh3_64"], size_limit=1 << 26) as writer:
        for document, jpeg in found:
            writer.write({"json": document, "jpg": jpeg})


def dataset(*, shuffle: bool) -> StreamingDataset:
    known = kept.get(shuffle)
    if known is None:
        known = kept[shuffle] = StreamingDataset(local=str(folder), shuffle=shuffle, shuffle_seed=1, batch_size=1)
    return known


kept: dict[bool, StreamingDataset] = {}
measure(
    out,
    found,
    folder,
    epochs,
    write=write,
    raw=lambda: iter(dataset(shuffle=False)),
    shuffled=lambda: iter(dataset(shuffle=True)),
    media=lambda item: item["jpg"],
)
