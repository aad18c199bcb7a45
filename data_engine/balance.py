"""Balance by task type: no type may hold more than a cap, and which of its samples stay is a function of their ids."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from pydantic import Field, model_validator

from data_engine import tables
from data_engine.curation import Curation
from data_engine.dedup.rows import Drops, Part, Rows
from data_engine.describe import SPOKEN, Turns
from data_engine.media import write_atomic
from data_engine.words import count_words
from strict_yaml import Strict

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


# A factor on a cap, within what a cap can bear. To leave a type out is `task_type`'s `unwanted`.
Weight = Annotated[float, Field(ge=0.001, le=1000)]


class Balance(Strict):
    """A cap per task type, given (`cap`) or the smallest that keeps `target` samples.

    `weights` multiply the cap of types with that level, or those levels in a row, anywhere in their path (`math: 2`,
    `math/algebra: 3`; the key of most levels counts), and `long_context` that of types whose answers are `long_tokens`
    or longer on average: what the Keye-VL-1.5 report (5.1) up-weights. An answer's length is that of the sampled ones,
    in tokens, and where a type's samples have none that of the target, in words. Of a type over its
    cap the hardest samples stay, in steps of a tenth of difficulty; among equals the id's hash decides.
    """

    cap: int | None = Field(default=None, ge=1)
    target: int | None = Field(default=None, ge=1)
    weights: dict[str, Weight] = Field(default_factory=dict)
    long_context: Weight = 1.0
    long_tokens: int = Field(default=2048, ge=1)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.cap is None) == (self.target is None):
            raise ValueError("give either cap or target")
        return self


def find(rows: Rows, config: Balance, this: Curation, folder: Path) -> Drops:  # noqa: ARG001 - passes share one signature
    """Rows over their type's cap. Leaves the plan (type, weight, seen, kept) as a table."""
    names, row, code, rank, tokens = _columns(rows, lengths=config.long_context != 1.0)
    seen = np.bincount(code, minlength=len(names))
    length = np.bincount(code, tokens, len(names)) / np.maximum(seen, 1)
    weights = type_weights(names, length, config)
    cap = config.cap or smallest_cap(seen, weights, config.target or 0)
    allowed = np.minimum(seen, caps(weights, cap))
    order = np.lexsort((row, rank, code))
    place = np.arange(len(code)) - np.repeat(np.cumsum(seen) - seen, seen)
    over = order[place >= allowed[code[order]]]
    plan = pa.table({"task_type": names, "weight": weights, "seen": seen, "kept": allowed})
    tables.write(plan, folder / "plan_by_type" / "part-00000.parquet")
    about = {"cap": int(cap), "types": len(names), "seen": int(seen.sum()), "kept": int(allowed.sum())}
    write_atomic(folder / "balance.json", json.dumps(about, indent=1).encode())
    dropped = np.sort(row[over])
    return Drops(dropped, np.full(len(dropped), -1), pa.array(["over its task type's cap"] * len(dropped), pa.string()))


_READ = ("id", "task_type", "difficulty", "answer_tokens", "target_words")


def _columns(rows: Rows, *, lengths: bool) -> tuple[list[str], Ints, Ints, npt.NDArray[np.uint64], Floats]:
    """(type names in alphabetical order; per alive row: number, type, rank within the type, tokens of its answers)."""
    place: dict[str, int] = {}
    found: list[tuple[Ints, Ints, npt.NDArray[np.uint64], Floats]] = []
    first = sum(part.earlier for part in rows.parts)
    for index, part in enumerate(rows.parts[first:], start=first):
        known = pq.read_schema(part.measures).names
        measures = pq.read_table(part.measures, columns=[name for name in _READ if name in known])
        number = np.arange(rows.start[index], rows.start[index + 1])
        alive = rows.alive[number]
        chosen = measures.filter(pa.array(alive))
        types = pc.dictionary_encode(pc.fill_null(chosen["task_type"].combine_chunks(), "other"))
        local = [place.setdefault(name, len(place)) for name in types.dictionary.to_pylist()]
        code = np.array(local, np.int64)[types.indices.to_numpy(zero_copy_only=False)]
        length = _lengths(chosen, part, alive) if lengths else np.zeros(len(code))
        found.append((number[alive], code, ranks(chosen), length))
    names = sorted(place)
    new = np.empty(len(place), np.int64)
    new[[place[name] for name in names]] = np.arange(len(names))
    row, code, rank, tokens = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return names, row, new[code], rank, tokens


def _lengths(measures: pa.Table, part: Part, alive: npt.NDArray[np.bool_]) -> Floats:
    """Of a part's alive rows: mean tokens of the sampled answers, else words of the target, counted if need be."""
    sampled = _numbers(measures, "answer_tokens", np.nan)
    if not np.isnan(sampled).any():
        return sampled
    if "target_words" in measures.column_names:
        words = _numbers(measures, "target_words", 0.0)
    else:
        turns = Turns(pq.read_table(part.samples, columns=["messages"])["messages"].filter(pa.array(alive)))
        words = count_words(turns.joined(SPOKEN)).astype(np.float64)
    return np.where(np.isnan(sampled), words, sampled)


def ranks(measures: pa.Table) -> npt.NDArray[np.uint64]:
    """What a type's samples are ordered by: the hardest tenth first, then by the hash of the id."""
    hashes = np.array([xxhash.xxh3_64_intdigest(name.encode()) for name in measures["id"].to_pylist()], np.uint64)
    ease = 10 - np.floor(_numbers(measures, "difficulty", 0.5) * 10).clip(0, 10)
    return (ease.astype(np.uint64) << np.uint64(60)) | (hashes >> np.uint64(4))


def _numbers(measures: pa.Table, name: str, otherwise: float) -> Floats:
    if name not in measures.column_names:
        return np.full(len(measures), otherwise)
    values: Floats = pc.fill_null(measures[name], otherwise).to_numpy()
    return values


def type_weights(names: list[str], length: Floats, config: Balance) -> Floats:
    """Per type the weight of the longest key in `weights` that is part of its path, times that of long answers."""
    weights = np.array([_weight(name, config.weights) for name in names], np.float64)
    return np.where(length >= config.long_tokens, weights * config.long_context, weights)


def _weight(name: str, weights: Mapping[str, float]) -> float:
    fitting = [path for path in weights if f"/{path.strip('/')}/" in f"/{name}/"]
    return weights[max(fitting, key=lambda path: (path.strip("/").count("/"), len(path)))] if fitting else 1.0


def caps(weights: Floats, cap: int) -> Ints:
    return np.maximum(1, np.floor(weights * cap)).astype(np.int64)


def smallest_cap(seen: Ints, weights: Floats, target: int) -> int:
    """The smallest cap that keeps `target` samples, by bisection; if there are not so many, one that keeps all."""
    low, high = 1, max(1, int(np.ceil((seen / weights).max(initial=1))))
    while low < high:
        middle = (low + high) // 2
        if np.minimum(seen, caps(weights, middle)).sum() >= target:
            high = middle
        else:
            low = middle + 1
    return low
