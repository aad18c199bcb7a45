"""Near-duplicate pictures: 64-bit perceptual hashes within a Hamming radius (`dedup.hamming`: exact)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from data_engine.curation import Curation
from data_engine.dedup.components import components
from data_engine.dedup.hamming import near_pairs
from data_engine.dedup.rows import Drops, Rows
from data_engine.describe import owners
from strict_yaml import Strict

Ints = npt.NDArray[np.int64]


class Perceptual(Strict):
    """Pictures whose hashes differ in at most `max_hamming` of 64 bits are one; the first one seen is kept.

    With `min_jaccard` the positions of their set bits must also overlap so much, which is the rule of the Keye-VL
    preview report (arXiv 2507.01949, appendix A: > 0.95). A sample is dropped if any of its pictures is a duplicate.
    """

    max_hamming: int = Field(default=4, ge=0, le=15)
    min_jaccard: float | None = Field(default=None, ge=0, lt=1)

    @model_validator(mode="after")
    def _radius_suffices(self) -> "Perceptual":
        if self.min_jaccard is not None and self.max_hamming < int((1 - self.min_jaccard) * 64):
            raise ValueError(f"max_hamming {self.max_hamming} hides pairs of Jaccard {self.min_jaccard}: raise it")
        return self


@dataclass(frozen=True, slots=True)
class Shown:
    """Which row shows which picture (parallel arrays), and per picture, numbered in order of appearance, its key, its
    hash and the place in those arrays where it first appears."""

    row: Ints
    picture: Ints
    keys: pa.Array
    hashes: npt.NDArray[np.uint64]
    first: Ints


def shown(rows: Rows) -> Shown:
    """All pictures with a hash that rows still kept show."""
    numbers, keys = rows.column("media_keys")
    _, hashes = rows.column("media_phash")
    row = numbers[owners(keys)]
    key, values = keys.combine_chunks().flatten(), hashes.combine_chunks().flatten()
    hashed = pc.is_valid(values).to_numpy(zero_copy_only=False)
    codes = pc.dictionary_encode(key.filter(pa.array(hashed)))  # in order of appearance
    picture = codes.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    _, first = np.unique(picture, return_index=True)
    return Shown(row[hashed], picture, codes.dictionary, values.filter(pa.array(hashed)).to_numpy()[first], first)


def drops_of(pictures: Shown, kept: Ints) -> Drops:
    """The rows that show a picture with another `kept` in its place; samples that share a kept picture all stay."""
    moved = np.flatnonzero(kept[pictures.picture] != pictures.picture)
    dropped, at = np.unique(pictures.row[moved], return_index=True)
    return Drops.duplicates(dropped, pictures.row[pictures.first[kept[pictures.picture[moved[at]]]]])


def find(rows: Rows, config: Perceptual, this: Curation, folder: Path) -> Drops:  # noqa: ARG001 - passes share one signature
    """Rows that show a near-duplicate of an earlier picture."""
    pictures = shown(rows)
    return drops_of(pictures, keepers(pictures.hashes, config))


def keepers(hashes: npt.NDArray[np.uint64], config: Perceptual) -> Ints:
    """For each picture, in order of appearance, the one kept in its place (itself, if it stays)."""
    pairs = near_pairs(hashes, config.max_hamming)
    if config.min_jaccard is not None:
        first, second = hashes[pairs[:, 0]], hashes[pairs[:, 1]]
        overlap = np.bitwise_count(first & second) / np.maximum(np.bitwise_count(first | second), 1)
        pairs = pairs[overlap > config.min_jaccard]
    return components(len(hashes), pairs[:, 0], pairs[:, 1])
