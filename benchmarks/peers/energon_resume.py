"""megatron-energon within an epoch: energon_resume.py OUT FOLDER SAMPLES AHEAD.

Its state is where its readers and its shuffle buffer are, so a loader has to read its way to a place
to save it: AHEAD samples.
"""

import io
import pickle
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from clock import answer, cpu_seconds, disk_bytes
from megatron.energon import WorkerConfig, get_savable_loader, get_train_dataset

out, folder, samples, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
SHARD, FIELDS = 100_000, '{"text": "txt"}'


def write() -> None:
    for first in range(0, samples, SHARD):
        with tarfile.open(folder / f"shard-{first // SHARD:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in range(first, first + SHARD):
                info = tarfile.TarInfo(f"{number:08d}.txt")
                info.size = 8
                tar.addfile(info, io.BytesIO(b"%08d" % number))
    energon = Path(sys.executable).with_name("energon")
    options = ["--non-interactive", "--split-ratio", "1,0,0", "--sample-type", "TextSample", "--field-map", FIELDS]
    subprocess.run([energon, "prepare", str(folder), *options], check=True)


def loader():
    workers = WorkerConfig(rank=0, world_size=1, num_workers=0)
    settings = {"batch_size": 1, "shuffle_buffer_size": 100, "max_samples_per_sequence": 100}
    return get_savable_loader(get_train_dataset(folder, worker_config=workers, **settings))


if not (folder / ".nv-meta").exists():
    folder.mkdir(parents=True)
    write()
began = time.perf_counter()
ahead = loader()
items = iter(ahead)
for _ in range(steps):
    next(items)
state = ahead.save_state_rank()
there = time.perf_counter() - began
spent, began = cpu_seconds(), time.perf_counter()
again = loader()
again.restore_state_rank(state)
next(iter(again))
wall, cpu = time.perf_counter() - began, cpu_seconds() - spent
index = disk_bytes(*(folder / ".nv-meta").rglob("*.*"), *folder.glob("*.idx"))
answer(out, wall=wall, cpu=cpu, there=there, state=len(pickle.dumps(state)), index=index)
