"""mosaicml-streaming at the last place of an epoch: streaming_resume.py OUT FOLDER SAMPLES.

One shard is written; the others are links to it, as only the index and the order are measured.
"""

import json
import sys
import time
from pathlib import Path
from unittest.mock import MagicMock

from clock import answer, cpu_seconds, disk_bytes

# Its vision datasets, unused here, import torchvision, of which there is no build for every build of torch.
sys.modules["streaming.vision"] = MagicMock()
from streaming import MDSWriter, StreamingDataset  # noqa: E402

out, folder, samples = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
SHARD = 100_000


def write() -> None:
    with MDSWriter(out=str(folder), columns={"number": "int"}, size_limit=1 << 31) as writer:
        for number in range(SHARD):
            writer.write({"number": number})
    index = json.loads((folder / "index.json").read_text())
    (first,) = index["shards"]
    for copy in range(1, samples // SHARD):
        name = f"shard.{copy:05d}.mds"
        (folder / name).hardlink_to(folder / first["raw_data"]["basename"])
        index["shards"].append({**first, "raw_data": {**first["raw_data"], "basename": name}})
    (folder / "index.json").write_text(json.dumps(index))


def begin(state: dict | None) -> tuple:
    """The dataset after its first sample, and the wall and CPU seconds from nothing to it."""
    spent, began = cpu_seconds(), time.perf_counter()
    dataset = StreamingDataset(local=str(folder), shuffle=True, shuffle_seed=1, batch_size=1)
    if state is not None:
        dataset.load_state_dict(state)
    items = iter(dataset)
    next(items)
    taken = time.perf_counter() - began, cpu_seconds() - spent
    return dataset, *taken


if not (folder / "index.json").exists():
    folder.mkdir(parents=True)
    write()
dataset, first, _ = begin(None)
state = {**dataset.state_dict(1, True), "sample_in_epoch": samples - 1}
del dataset
_, wall, cpu = begin(state)
answer(
    out,
    first=first,
    wall=wall,
    cpu=cpu,
    state=len(json.dumps(state)),
    index=disk_bytes(folder / "index.json"),
)
