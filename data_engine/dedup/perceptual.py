"""Near-duplicate pictures: 64-bit perceptual hashes within a Hamming radius, found by multi-index hashing.

Two hashes at distance <= r agree exactly on at least one of r + 1 bands of bits (pigeonhole), so a join on
(band, value) finds every pair; the candidates' distances are then checked.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from data_engine.dedup.components import components
from data_engine.dedup.engine import Engine
from strict_yaml import Strict

_SQL = """
SELECT DISTINCT a.item AS first, b.item AS second
FROM bands AS a JOIN bands AS b ON a.band = b.band AND a.value = b.value WHERE a.item < b.item
"""


class Perceptual(Strict):
    """Pictures whose hashes differ in at most `max_hamming` of 64 bits are one; the smallest key is kept."""

    max_hamming: int = Field(default=4, ge=0, le=15)


def find(measures: pa.Table, config: Perceptual, engine: Engine) -> dict[int, str]:
    """Rows whose picture is a near-duplicate, each with the media key kept in its place.

    Only samples with a single image are compared; samples that share the kept picture all stay.
    """
    keys = [row[0] if row and len(row) == 1 else None for row in measures["media_keys"].to_pylist()]
    hashes = dict(zip(keys, measures["phash"].to_pylist() if "phash" in measures.column_names else [], strict=False))
    pictures = sorted(key for key, value in hashes.items() if key is not None and value is not None)
    values = np.array([hashes[key] for key in pictures], dtype=np.uint64)
    pairs = near_pairs(values, config.max_hamming, engine)
    keeper = dict(enumerate(components(len(pictures), pairs)))
    place = {key: index for index, key in enumerate(pictures)}
    return {
        row: pictures[keeper[place[key]]]
        for row, key in enumerate(keys)
        if key in place and keeper[place[key]] != place[key]
    }


def near_pairs(hashes: npt.NDArray[np.uint64], radius: int, engine: Engine) -> npt.NDArray[np.int64]:
    """All index pairs [N, 2] of hashes at Hamming distance <= radius, each once, first < second."""
    if len(hashes) < 2:
        return np.empty((0, 2), np.int64)
    found = engine(_SQL, bands=_bands(hashes, radius + 1))
    pairs = np.stack([found[name].to_numpy() for name in ("first", "second")], axis=1).astype(np.int64)
    distance = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])
    near: npt.NDArray[np.int64] = pairs[distance <= radius]
    return np.array(near[np.lexsort((near[:, 1], near[:, 0]))])


def _bands(hashes: npt.NDArray[np.uint64], count: int) -> pa.Table:
    """Each hash cut into `count` bands: rows of (item, band, value)."""
    edges = np.linspace(0, 64, count + 1).astype(np.uint64)
    values = [(hashes >> low) & np.uint64((1 << int(high - low)) - 1) for low, high in pairwise(edges)]
    items = np.arange(len(hashes), dtype=np.int64)
    return pa.table(
        {
            "item": np.tile(items, count),
            "band": np.repeat(np.arange(count, dtype=np.int32), len(hashes)),
            "value": np.concatenate(values).view(np.int64),
        }
    )
