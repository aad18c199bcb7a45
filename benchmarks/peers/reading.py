"""What the scripts that write and read pictures share: the items, the one decoder, and how rates are taken."""

import gc
import io
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from clock import answer, cpu_seconds
from PIL import Image

Item = tuple[bytes, bytes]
"""The JSON of a sample, and its JPEG."""


def items(path: str) -> list[Item]:
    found: list[Item] = pickle.loads(Path(path).read_bytes())
    return found


def decode(jpeg: Any) -> np.ndarray:
    """RGB pixels."""
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


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
    epochs: int,
    *,
    write: Callable[[], Any],
    raw: Callable[[], Iterator[Any]],
    shuffled: Callable[[], Iterator[Any]],
    media: Callable[[Any], Any],
) -> None:
    """Writes, reads and decodes, each after a first time that does not count, and answers with the rates."""
    sizes = sum(len(jpeg) for _, jpeg in found)
    rates = {"write": rate(len(found), write)}
    read(raw, media, sizes, 1)
    rates["raw"] = rate(len(found) * epochs, lambda: read(raw, media, sizes, epochs))
    read(shuffled, media, sizes, 1)
    rates["decode"] = rate(len(found), lambda: [decode(media(item)) for item in shuffled()])
    answer(out, rates=rates, pillow=PIL.__version__)
