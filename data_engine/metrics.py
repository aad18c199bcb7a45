"""What gates look at: one row of metrics per corpus, made part by part, so that memory does not grow with the data."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine import tables
from data_engine.sample import MODALITIES

BATCH = 4096
Row = dict[str, Any]
PLAIN = (
    *("ingested", "kept", "dropped", "rerouted", "quarantined", "rewritten"),
    *("kept_share", "dropped_share", "rerouted_share", "quarantined_share", "rewritten_share"),
    *("duplicate_share", "contaminated_share", "no_target_share"),
    *("share_zh", "share_en", "share_other", *(f"share_{name}" for name in MODALITIES)),
    *("mean_tokens", "tokens"),
)
STATISTICS = ("min", "max", "mean", "null_share")
# Numbers by type, not by meaning: their size says nothing.
_NOT_A_QUANTITY = {"phash"}


def of_corpus(folders: Mapping[str, Path], counts: Mapping[str, int]) -> Row:
    """The metrics of one corpus: `PLAIN`, and `measures.<column>.<statistic>` of every measure of the kept samples.

    `folders` names the tables `verdicts`, `samples`, `measures` (the kept ones), `measured` (all) and `tokens`;
    `counts` its totals. Languages are told by script, of what the model is to say; shares of languages and
    modalities are of kept samples, all others of records read.
    """
    total, kept = max(counts["ingested"], 1), max(counts["kept"], 1)
    tokens = sum(pc.sum(batch["tokens"]).as_py() or 0 for batch in _batches(folders["tokens"], ["tokens"]))
    return {
        **counts,
        **{f"{name}_share": count / total for name, count in counts.items() if f"{name}_share" in PLAIN},
        **{name: count / total for name, count in _dropped(folders["verdicts"]).items()},
        "no_target_share": _without_target(folders["measured"]) / total,
        **{name: count / kept for name, count in _kinds(folders["samples"], folders["measures"]).items()},
        "mean_tokens": tokens / kept,
        "tokens": tokens,
        **statistics(folders["measures"]),
    }


def _batches(folder: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """A table's rows, a few thousand at a time; parts that lack a column are passed over."""
    for part in tables.parts(folder):
        with pq.ParquetFile(part) as file:
            if set(columns) <= set(file.schema_arrow.names):
                yield from file.iter_batches(BATCH, columns=list(columns))


def _true(mask: pa.Array) -> int:
    return pc.sum(pc.fill_null(mask, False)).as_py() or 0


def _dropped(verdicts: Path) -> dict[str, int]:
    """Samples dropped as duplicates, and because they show what a benchmark asks."""
    found = {"duplicate_share": 0, "contaminated_share": 0}
    for batch in _batches(verdicts, ["operator", "reason"]):
        by_pass, twin = pc.starts_with(batch["operator"], "dedup."), pc.starts_with(batch["reason"], "duplicate of ")
        found["duplicate_share"] += _true(pc.and_kleene(by_pass, twin))
        found["contaminated_share"] += _true(pc.equal(batch["operator"], "dedup.decontaminate"))
    return found


def _without_target(measured: Path) -> int:
    return sum(_true(pc.invert(batch["has_target"])) for batch in _batches(measured, ["has_target"]))


def _kinds(samples: Path, measures: Path) -> dict[str, int]:
    """Kept samples by the language of their targets and by modality."""
    found = dict.fromkeys(("share_zh", "share_en", "share_other", *(f"share_{name}" for name in MODALITIES)), 0)
    for batch in _batches(measures, ["language"]):
        for row in pc.value_counts(batch["language"]).to_pylist():
            found[f"share_{row['values'] if row['values'] in {'zh', 'en'} else 'other'}"] += row["counts"]
    for batch in _batches(samples, ["modality"]):
        for row in pc.value_counts(batch["modality"]).to_pylist():
            found[f"share_{row['values']}"] += row["counts"]
    return found


def quantities(folder: Path) -> list[str]:
    """The columns of a table of measures that hold quantities: numbers, and yes or no."""
    found: dict[str, None] = {}
    for part in tables.parts(folder):
        for field in pq.read_schema(part):
            if _is_quantity(field.type) and field.name not in _NOT_A_QUANTITY:
                found[field.name] = None
    return list(found)


def _is_quantity(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def statistics(measures: Path) -> dict[str, float | None]:
    """`measures.<column>.<statistic>` of every quantity; what is not finite counts as null."""
    columns = quantities(measures)
    tallies = {column: _Tally() for column in columns}
    for part in tables.parts(measures):
        with pq.ParquetFile(part) as file:
            known = [name for name in columns if name in file.schema_arrow.names]
            for batch in file.iter_batches(BATCH, columns=known):
                for column in known:
                    tallies[column].add(batch[column])
    return {
        f"measures.{c}.{s}": v for c, tally in tallies.items() for s, v in zip(STATISTICS, tally.told(), strict=True)
    }


@dataclass(slots=True)
class _Tally:
    """What is known of a column after some of its batches."""

    rows: int = 0
    valid: int = 0
    total: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def add(self, values: pa.Array) -> None:
        finite = _finite_of(values)
        self.rows, self.valid = self.rows + len(values), self.valid + len(finite)
        if len(finite):
            self.total += float(finite.sum())
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))

    def told(self) -> tuple[float | None, ...]:
        """The values of `STATISTICS`."""
        share = 1 - self.valid / self.rows if self.rows else None
        return (self.low, self.high, self.total / self.valid, share) if self.valid else (None, None, None, share)


def _finite_of(values: pa.Array) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = values.drop_null().cast(pa.float64()).to_numpy(zero_copy_only=False)
    return found[np.isfinite(found)]


def drift(now: Row, before: Row) -> dict[str, float]:
    """`drift_<metric>`: (now - before) / |before| of every metric that both have.

    Against nothing (before = 0) any change is huge, yet finite.
    """
    names = [name for name in (*PLAIN, *now) if name in PLAIN or name.startswith("measures.")]
    known = {name: (now.get(name), before.get(name)) for name in dict.fromkeys(names)}
    return {
        f"drift_{name}": (float(new) - float(old)) / max(abs(float(old)), 1e-9)
        for name, (new, old) in known.items()
        if new is not None and old is not None
    }


# Values are counted by the leading bits of their float32, put in order: about 0.2 % of a value wide, whatever
# its size, and exact for whole numbers up to 1,024. Two megabytes and one pass, with no look at the range first.
_BITS = 18


def sketch(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """How many values fall into each of 2^18 fixed bins in rising order; sketches add up."""
    bits = (values + 0.0).astype(np.float32).view(np.uint32)  # + 0.0: one zero
    ordered = np.where(bits >> 31 == 1, ~bits, bits | np.uint32(1 << 31))
    return np.bincount(ordered >> np.uint32(32 - _BITS), minlength=1 << _BITS)


def stability(now: npt.NDArray[np.int64], before: npt.NDArray[np.int64], num_bins: int = 10) -> float | None:
    """The population stability index of two sketches, over the deciles of `before`: sum of (p - q) ln(p / q).

    Below 0.1 is usually read as stable, above 0.25 as shifted. An empty bin counts as half a value.
    None where either sketch is empty.
    """
    if not now.sum() or not before.sum():
        return None
    # A bin ends after the value with which its decile is reached; many equal values make fewer bins.
    ends = np.unique(np.searchsorted(np.cumsum(before), before.sum() * np.arange(1, num_bins) / num_bins))
    p, q = (_shares(counts, ends) for counts in (now, before))
    return float(((p - q) * np.log(p / q)).sum())


def _shares(counts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    below = np.concatenate([[0], np.cumsum(counts)[ends], [counts.sum()]])
    filled = np.maximum(np.diff(below), 0.5)
    shares: npt.NDArray[np.float64] = filled / filled.sum()
    return shares


def psi(now: Path, before: Path | None, column: str) -> float | None:
    """The population stability index of a measure between two tables of kept samples."""
    if before is None:
        return None
    return stability(_sketched(now, column), _sketched(before, column))


def _sketched(folder: Path, column: str) -> npt.NDArray[np.int64]:
    """The sketch of a column over all parts."""
    whole = np.zeros(1 << _BITS, np.int64)
    for batch in _batches(folder, [column]):
        whole += sketch(_finite_of(batch[column]))
    return whole


def earlier(rows: Path, corpus: str) -> Row | None:
    """A corpus's row of an earlier metrics.json."""
    found: Iterable[Row] = json.loads(rows.read_text()) if rows.exists() else ()
    return next((row for row in found if row["corpus"] == corpus), None)
