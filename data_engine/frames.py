"""The sampled frames of a video as the probe keeps them: small JPEGs, and per frame what spans are measured by.

`frames/<key>.parquet` is written and read by groups of frames, so that neither holds a long film in memory.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from data_engine import image_measures
from data_engine.media import encode_jpeg, incoming

Pixels = npt.NDArray[np.uint8]
SCHEMA = pa.schema(
    [("key", pa.string()), ("index", pa.int32()), ("time", pa.float64()), ("jpeg", pa.binary())]
    + [("hash", pa.uint64()), ("luma", pa.float64()), ("motion", pa.float64())]
)
_GROUP = 128
FLAT = 6.0
"""Standard deviation of grey levels below which a frame is too plain for its hash to tell it from others."""
_DARK = 32
"""The lightest grey level of a black border, after lossy coding."""
_MAX_BORDER = 0.45


@dataclass(frozen=True, slots=True)
class Signals:
    """Per frame of a video: its time in seconds, its hash (0: too plain to tell), its mean grey level, and its mean
    absolute difference from the frame before (nan for the first), both on 0..255."""

    time: npt.NDArray[np.float64]
    hash: npt.NDArray[np.uint64]
    luma: npt.NDArray[np.float64]
    motion: npt.NDArray[np.float64]

    def between(self, start: float | None, end: float | None) -> "Signals":
        """Those of a span, its end excluded; the first frame's motion is not of the span."""
        low = int(np.searchsorted(self.time, (start or 0.0) - 1e-6))
        high = len(self.time) if end is None else int(np.searchsorted(self.time, end - 1e-6))
        motion = self.motion[low:high].copy()
        motion[:1] = np.nan
        return Signals(self.time[low:high], self.hash[low:high], self.luma[low:high], motion)


def write(frames: Iterable[Pixels], key: str, fps: float, path: Path) -> int:
    """Keeps RGB frames [H, W, 3] that come `fps` a second; how many there were. A fault leaves no file."""
    count, before = 0, None
    rows: list[tuple[object, ...]] = []
    with incoming(path) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for count, pixels in enumerate(frames, start=1):
            small = pixels[::8, ::8].astype(np.int16)
            motion = float("nan") if before is None else float(np.abs(small - before).mean())
            before = small
            time = (count - 1) / fps
            rows.append((key, count - 1, time, encode_jpeg(pixels), frame_hash(pixels), float(small.mean()), motion))
            if len(rows) == _GROUP:
                writer.write_table(_table(rows))
                rows = []
        writer.write_table(_table(rows))
    return count


def _table(rows: list[tuple[object, ...]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    return pa.table(
        [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def frame_hash(pixels: Pixels) -> int:
    """The perceptual hash of a frame within its black borders; 0 for one too plain to be told from others."""
    grey = within_borders(image_measures.to_grey(pixels))
    return 0 if float(grey.std()) < FLAT else image_measures.phash(np.ascontiguousarray(grey))


def within_borders(grey: Pixels) -> Pixels:
    """A grey frame [H, W] without the black bars at its edges, each at most `_MAX_BORDER` of its side."""
    top, bottom = _lit(grey.max(axis=1))
    left, right = _lit(grey.max(axis=0))
    return grey[top:bottom, left:right]


def _lit(brightest: Pixels) -> tuple[int, int]:
    """The first and the end of what is brighter than a bar."""
    lit, most = np.flatnonzero(brightest > _DARK), int(len(brightest) * _MAX_BORDER)
    if not len(lit) or lit[0] > most or len(brightest) - 1 - lit[-1] > most:
        return 0, len(brightest)
    return int(lit[0]), int(lit[-1]) + 1


def signals(path: Path) -> Signals:
    """What spans are measured by, of a whole video. Raises FileNotFoundError."""
    return _signals(path)


@functools.lru_cache(maxsize=16)
def _signals(path: Path) -> Signals:
    table = pq.read_table(path, columns=["time", "hash", "luma", "motion"])
    return Signals(*(column.to_numpy() for column in table.columns))


def jpegs(path: Path, start: float | None, end: float | None) -> list[bytes]:
    """The frames of a span, its end excluded: only groups that hold some are read. Raises FileNotFoundError."""
    times, edges = _times(path)
    low = int(np.searchsorted(times, (start or 0.0) - 1e-6))
    return _slice(path, edges, low, len(times) if end is None else int(np.searchsorted(times, end - 1e-6)))


def jpeg_at(path: Path, time: float) -> bytes:
    """The frame nearest to a time; of two equally near the earlier. Raises FileNotFoundError."""
    times, edges = _times(path)
    nearest = int(np.argmin(np.abs(times - time)))
    return _slice(path, edges, nearest, nearest + 1)[0]


def _slice(path: Path, edges: list[int], low: int, high: int) -> list[bytes]:
    found: list[bytes] = []
    for group, (first, last) in enumerate(pairwise(edges)):
        if first < high and low < last:
            found += _group(path, group)[max(0, low - first) : high - first]
    return found


@functools.lru_cache(maxsize=16)
def _times(path: Path) -> tuple[npt.NDArray[np.float64], list[int]]:
    """The times of all frames, and the numbers of the frames at which groups begin, with the end."""
    with pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        return file.read(columns=["time"])["time"].to_numpy(), list(accumulate(sizes, initial=0))


@functools.lru_cache(maxsize=16)
def _group(path: Path, group: int) -> list[bytes]:
    with pq.ParquetFile(path) as file:
        found: list[bytes] = file.read_row_group(group, columns=["jpeg"])["jpeg"].to_pylist()
        return found
