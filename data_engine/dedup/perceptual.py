"""Near-duplicate pictures: 64-bit perceptual hashes within a Hamming radius (`dedup.hamming`: exact)."""

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


def find(rows: Rows, config: Perceptual, this: Curation, folder: Path) -> Drops:  # noqa: ARG001 - passes share one signature
    """Rows that show a near-duplicate of an earlier picture; samples that share the kept picture all stay."""
    numbers, keys = rows.column("media_keys")
    _, hashes = rows.column("media_phash")
    row = numbers[owners(keys)]
    shown, values = keys.combine_chunks().flatten(), hashes.combine_chunks().flatten()
    hashed = pc.is_valid(values).to_numpy(zero_copy_only=False)
    row, shown, values = row[hashed], shown.filter(pa.array(hashed)), values.filter(pa.array(hashed))
    picture = pc.dictionary_encode(shown).indices.to_numpy(zero_copy_only=False)  # in order of appearance
    _, first = np.unique(picture, return_index=True)
    kept = keepers(values.to_numpy()[first], config)
    moved = np.flatnonzero(kept[picture] != picture)
    dropped, at = np.unique(row[moved], return_index=True)
    return Drops.duplicates(dropped, row[first[kept[picture[moved[at]]]]])


def keepers(hashes: npt.NDArray[np.uint64], config: Perceptual) -> Ints:
    """For each picture, in order of appearance, the one kept in its place (itself, if it stays)."""
    pairs = near_pairs(hashes, config.max_hamming)
    if config.min_jaccard is not None:
        first, second = hashes[pairs[:, 0]], hashes[pairs[:, 1]]
        overlap = np.bitwise_count(first & second) / np.maximum(np.bitwise_count(first | second), 1)
        pairs = pairs[overlap > config.min_jaccard]
    return components(len(hashes), pairs[:, 0], pairs[:, 1])
