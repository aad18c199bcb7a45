"""webdataset writes and reads pictures: webdataset_shards.py OUT ITEMS FOLDER EPOCHS.

It keeps neither an index nor checksums; its shuffle is that of a buffer of 1,000 samples.
"""

import sys
from pathlib import Path

import webdataset
from reading import items, measure

out, found, folder, epochs = sys.argv[1], items(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])


def write(target: Path) -> None:
    target.mkdir(parents=True)
    with webdataset.ShardWriter(f"{target}/%05d.tar", maxsize=1 << 26, maxcount=10**9, verbose=0) as writer:
        for number, (document, jpeg) in enumerate(found):
            writer.write({"__key__": f"{number:011d}", "json": document, "jpg": jpeg})


def tars() -> list[str]:
    return sorted(map(str, folder.glob("*.tar")))


measure(
    out,
    found,
    folder,
    epochs,
    write=write,
    raw=lambda: iter(webdataset.WebDataset(tars(), shardshuffle=False)),
    shuffled=lambda: iter(webdataset.WebDataset(tars(), shardshuffle=100, seed=1).shuffle(1000)),
    media=lambda item: item["jpg"],
)
