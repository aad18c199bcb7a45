"""What the scripts that write and read pictures share: the items, the one decoder, and how rates are taken."""

import gc
import io
import pickle
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from clock import answer, cpu_seconds
from PIL import Image

WRITES = 3
TURNS = 3  # of decoding what is read, and what is in memory
Item = tuple[bytes, bytes]
"""The JSON of a sample, and its JPEG."""


def items(path: str) -> list[Item]:
    found: list[Item] = pickle.loads(Path(path).read_bytes())
    return found


def decode(jpeg: Any) -> np.ndarray:
    """RGB pixels."""
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def decode_all(jpegs: Iterable[Any]) -> None:
    for jpeg in jpegs:
        decode(jpeg)


def rate(count: int, work: Callable[[], Any]) -> dict[str, float]:
    """Samples per CPU-second and per second of `work`, which handles `count`."""
    gc.collect()
    spent, began = cpu_seconds(), time.perf_counter()
    work()
    return {"cpu": count / (cpu_seconds() - spent), "wall": count / (time.perf_counter() - began)}


def read(begin: Callable[[], Iterator[Any]], media: Callable[[Any], Any], sizes: int, epochs: int) -> int:
    """Reads whole epochs and adds up the media's bytes, which must be those of the items."""
    count = 0
    for _ in range(epochs):
        total = 0
        for item in begin():
            total += len(media(item))
            count += 1
        assert total == sizes, (total, sizes)
    return count


def measure(
    out: str,
    found: list[Item],
    folder: Path,
    epochs: int,
    *,
    write: Callable[[Path], Any],
    raw: Callable[[], Iterator[Any]],
    shuffled: Callable[[], Iterator[Any]],
    media: Callable[[Any], Any],
) -> None:
    """Writes, reads and decodes, each after a first time that does not count, and answers with the rates.

    What is read is what was written last, to `folder`.
    """
    sizes = sum(len(jpeg) for _, jpeg in found)
    copies = [folder.with_name(f"{folder.name}.{number}") for number in range(WRITES)]
    write(copies.pop())
    rates = {"write": rate(len(found) * WRITES, lambda: [write(copy) for copy in (*copies, folder)])}
    for copy in folder.parent.glob(f"{folder.name}.[0-9]"):
        shutil.rmtree(copy)
    read(raw, media, sizes, 1)
    rates["raw"] = rate(len(found) * epochs, lambda: read(raw, media, sizes, epochs))
    read(shuffled, media, sizes, 1)
    turns = [
        (
            rate(len(found), lambda: decode_all(map(media, shuffled()))),
            rate(len(found), lambda: decode_all(jpeg for _, jpeg in found)),
        )
        for _ in range(TURNS)
    ]
    for column, side in (("decode", 0), ("decoder", 1)):
        rates[column] = {kind: statistics.median(turn[side][kind] for turn in turns) for kind in ("cpu", "wall")}
    rates["of decoder"] = {
        kind: statistics.median(read[kind] / memory[kind] for read, memory in turns) for kind in ("cpu", "wall")
    }
    answer(out, rates=rates, pillow=PIL.__version__)
