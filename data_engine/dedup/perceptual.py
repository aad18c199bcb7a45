"""Near-duplicate pictures: 64-bit perceptual hashes within a Hamming radius (`dedup.hamming`: exact)."""

from dataclasses import dataclass
from pathlib import Path

import numba
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


def drops_of(pictures: Shown, component: Ints, first_new: int) -> Drops:
    """The rows that show a picture of which an earlier row that stays shows a near-duplicate.

    A row that goes stands for nothing: what only it showed besides is not lost with it. Samples that share a picture
    all stay, and so does whatever comes before `first_new`, the first row that is not of an earlier release.
    """
    row, keeper = _walk(pictures.row, pictures.picture, component, first_new)
    return Drops.duplicates(row, keeper)


@numba.njit(cache=True)
def _walk(row, picture, component, first_new):  # type: ignore[no-untyped-def]
    """(dropped, kept in its place), rows in rising order. The first picture of a component that stays stands for it."""
    stands, shown_by = np.full(len(component), -1, np.int64), np.full(len(component), -1, np.int64)
    dropped, keeper, count, start = np.empty(len(row), np.int64), np.empty(len(row), np.int64), 0, 0
    while start < len(row):
        end, twin = start, -1
        while end < len(row) and row[end] == row[start]:
            of = component[picture[end]]
            if twin < 0 and stands[of] >= 0 and stands[of] != picture[end] and row[start] >= first_new:
                twin = shown_by[of]
            end += 1
        if twin >= 0:
            dropped[count], keeper[count] = row[start], twin
            count += 1
        else:
            for place in range(start, end):
                of = component[picture[place]]
                if stands[of] < 0:
                    stands[of], shown_by[of] = picture[place], row[start]
        start = end
    return dropped[:count], keeper[:count]


def find(rows: Rows, config: Perceptual, this: Curation, folder: Path) -> Drops:  # noqa: ARG001 - passes share one signature
    """Rows that show a near-duplicate of an earlier picture."""
    pictures = shown(rows)
    return drops_of(pictures, keepers(pictures.hashes, config), rows.first_new)


def keepers(hashes: npt.NDArray[np.uint64], config: Perceptual) -> Ints:
    """For each picture, in order of appearance, the first of those it is connected to by near pairs."""
    pairs = near_pairs(hashes, config.max_hamming)
    if config.min_jaccard is not None:
        first, second = hashes[pairs[:, 0]], hashes[pairs[:, 1]]
        overlap = np.bitwise_count(first & second) / np.maximum(np.bitwise_count(first | second), 1)
        pairs = pairs[overlap > config.min_jaccard]
    return components(len(hashes), pairs[:, 0], pairs[:, 1])
