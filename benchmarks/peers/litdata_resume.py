"""litdata at the last place of an epoch: litdata_resume.py OUT FOLDER SAMPLES.

One chunk is written; the others are links to it, as only the index and the order are measured.
"""

import json
import sys
import time
from pathlib import Path

from clock import answer, cpu_seconds, disk_bytes
from litdata import StreamingDataset
from litdata.streaming.writer import BinaryWriter

out, folder, samples = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
CHUNK = 100_000


def write() -> None:
    writer = BinaryWriter(cache_dir=str(folder), chunk_size=CHUNK)
    for number in range(CHUNK):
        writer[number] = {"number": number}
    writer.done()
    writer.merge(1)
    index = json.loads((folder / "index.json").read_text())
    (first,) = index["chunks"]
    for copy in range(1, samples // CHUNK):
        name = f"chunk-0-{copy}.bin"
        (folder / name).hardlink_to(folder / first["filename"])
        index["chunks"].append({**first, "filename": name})
    (folder / "index.json").write_text(json.dumps(index))


def begin(state: dict | None) -> tuple:
    """The dataset after its first sample, and the wall and CPU seconds from nothing to it."""
    spent, began = cpu_seconds(), time.perf_counter()
    dataset = StreamingDataset(str(folder), shuffle=True, seed=1)
    if state is not None:
        dataset.load_state_dict(state)
    items = iter(dataset)
    next(items)
    return dataset, time.perf_counter() - began, cpu_seconds() - spent


if not (folder / "index.json").exists():
    folder.mkdir(parents=True)
    write()
dataset, first, _ = begin(None)
state = dataset.state_dict(num_samples_yielded=samples - 1, num_workers=1, batch_size=1)
_, wall, cpu = begin(state)
answer(
    out,
    first=first,
    wall=wall,
    cpu=cpu,
    state=len(json.dumps(state)),
    index=disk_bytes(folder / "index.json"),
)
