"""megatron-energon over shards that it did not write: energon_prepare.py OUT SHARDS COPY.

Copies the tars to COPY, as it writes its own index there, lets `energon prepare` make a dataset of them, and reads
the training split in order: the id in each sample's JSON and the names of its members.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from clock import answer
from megatron.energon import (
    Cooker,
    DefaultTaskEncoder,
    WorkerConfig,
    basic_sample_keys,
    get_loader,
    get_val_dataset,
    stateless,
)

out, shards, copy = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])


@stateless
def told(sample: dict) -> dict:
    names = sorted(name for name in sample if not name.startswith("__"))
    document = sample["json"]
    document = document if isinstance(document, dict) else json.loads(document)
    return {**basic_sample_keys(sample), "id": document["id"], "members": names}


class Encoder(DefaultTaskEncoder):
    decoder = None
    cookers = (Cooker(told),)

    def batch(self, samples: list) -> list:
        return samples

    def encode_sample(self, sample: dict) -> dict:
        return sample


copy.mkdir(parents=True)
for tar in shards.glob("*.tar"):
    shutil.copy(tar, copy)
energon = Path(sys.executable).with_name("energon")
parts = [f"--split-parts={name}:{split}-.*\\.tar" for name, split in (("train", "train"), ("val", "heldout"))]
options = ["--non-interactive", "--no-progress", *parts, "--sample-type", "CrudeWebdataset"]
began = time.perf_counter()
subprocess.run([energon, "prepare", str(copy), *options], check=True)
prepared = time.perf_counter() - began
workers = WorkerConfig(rank=0, world_size=1, num_workers=0)
dataset = get_val_dataset(copy, split_part="train", worker_config=workers, batch_size=1, task_encoder=Encoder())
found = [sample for batch in get_loader(dataset) for sample in batch]
answer(
    out,
    prepare=prepared,
    ids=[sample["id"] for sample in found],
    members=[sample["members"] for sample in found],
)
