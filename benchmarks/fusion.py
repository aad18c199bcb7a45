"""Peak memory and time of merging the largest tensors of an 8B model: `python benchmarks/fusion.py`.

A base and two experts in bfloat16: both word matrices of 151,936 x 4,096 and the feed-forward matrices of one decoder
layer. A merge holds one tensor and the shard that is not yet written, and no tensor of the model is larger: the two
word matrices, which follow one another, are the worst that it meets. Each merge runs in a child process of its own,
whose peak resident memory is the kernel's count (the pages of files that were mapped are in it).
"""

import multiprocessing
import resource
import shutil
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from model.fusion.merge import merge
from model.fusion.methods import BASELESS, SPARSE, Method
from model.fusion.recipe import MergeModel, MergeRecipe
from model.weights import WeightsWriter

FOLDER = Path("build/benchmark-fusion")
METHODS: tuple[Method, ...] = ("linear", "ties")
SHAPES = {
    "lm_head.weight": (151_936, 4_096),
    "model.embed_tokens.weight": (151_936, 4_096),
    "model.layers.0.mlp.down_proj.weight": (4_096, 12_288),
    "model.layers.0.mlp.gate_proj.weight": (12_288, 4_096),
    "model.layers.0.mlp.up_proj.weight": (12_288, 4_096),
}
GOAL_GIB = 8


def write_model(folder: Path, moved: float) -> None:
    """The same weights for every model, and `moved` of another draw on top."""
    base, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(int(moved * 1e6))
    writer = WeightsWriter(folder)
    for name, shape in SHAPES.items():
        tensor = torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02, generator=base)
        for start in range(0, shape[0] if moved else 0, 1024):
            rows = tensor[start : start + 1024]
            rows.add_(torch.empty(rows.shape).normal_(std=moved, generator=own))
        writer.add(name, tensor)
    writer.close()


def recipe(method: Method, folders: list[Path]) -> MergeRecipe:
    """Base and two experts: task vectors where the method has a base, else the three averaged."""
    density = 0.2 if method in SPARSE else None
    base, merged = (None, folders) if method in BASELESS else (folders[0], folders[1:])
    return MergeRecipe(method=method, base=base, models=tuple(MergeModel(path=f, density=density) for f in merged))


def measure(method: Method, folders: list[Path], out: Path, answer: Connection) -> None:
    """Merges, and sends seconds, CPU-seconds and peak resident GiB."""
    torch.set_num_threads(1)
    start, cpu = time.perf_counter(), time.process_time()
    merge(recipe(method, folders), out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    answer.send((time.perf_counter() - start, time.process_time() - cpu, peak))


def in_child(method: Method, folders: list[Path], out: Path) -> tuple[float, float, float]:
    """What `measure` finds in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=measure, args=(method, folders, out, sender))
    child.start()
    sender.close()
    try:
        result: tuple[float, float, float] = receiver.recv()
    except EOFError:
        raise SystemExit(f"{method}: the merge failed") from None
    finally:
        child.join()
    return result


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    folders = [FOLDER / name for name in ("base", "expert1", "expert2")]
    table = Table(title=f"merging base and two experts, bfloat16; goal: below {GOAL_GIB} GiB")
    for column in ("method", "values", "seconds", "CPU-seconds", "peak GiB"):
        table.add_column(column, justify="right")
    values = sum(rows * columns for rows, columns in SHAPES.values())
    try:
        for index, folder in enumerate(folders):
            write_model(folder, 0.002 * index)
        for method in METHODS:
            seconds, cpu, peak = in_child(method, folders, FOLDER / f"merged-{method}")
            shutil.rmtree(FOLDER / f"merged-{method}")
            table.add_row(method, f"{values:,}", f"{seconds:.0f}", f"{cpu:.0f}", f"{peak:.2f}")
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
    Console().print(table)


if __name__ == "__main__":
    main()
