"""litdata writes and reads pictures: litdata_shards.py OUT ITEMS FOLDER EPOCHS. It keeps no checksums."""

import sys
from pathlib import Path

from litdata import StreamingDataset
from litdata.streaming.writer import BinaryWriter
from reading import items, measure

out, found, folder, epochs = sys.argv[1], items(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])


def write(target: Path) -> None:
    writer = BinaryWriter(cache_dir=str(target), chunk_bytes=1 << 26)
    for number, (document, jpeg) in enumerate(found):
        writer[number] = {"json": document, "jpg": jpeg}
    writer.done()
    writer.merge(1)


measure(
    out,
    found,
    folder,
    epochs,
    write=write,
    raw=lambda: iter(StreamingDataset(str(folder), shuffle=False)),
    shuffled=lambda: iter(StreamingDataset(str(folder), shuffle=True, seed=1)),
    media=lambda item: item["jpg"],
)
