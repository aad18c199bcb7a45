"""Step 2, choosing: every chain's probability by the calibration, and which chains of a question are kept."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cot_factory import calibrate
from cot_factory.question import SELECTED, Row, chain_id
from cot_factory.recipe import Factory
from cot_factory.select import select
from data_engine import tables
from data_engine.media import write_atomic
from data_engine.step import Counts


def choose(assessed: Path, recipe: Factory, folder: Path) -> Counts:
    """All assessed chains to `calibration.json` and the table `selected`, part for part."""
    rows = tables.rows(assessed)
    about, probability = _fitted(rows, recipe)
    write_atomic(folder / "calibration.json", json.dumps(about, indent=1).encode())
    by_chain = {chain_id(row): float(one) for row, one in zip(rows, probability, strict=True)}
    spec = recipe.select
    for part in tables.parts(assessed):
        found = [row | {"probability": by_chain[chain_id(row)]} for row in pq.read_table(part).to_pylist()]
        chosen = [row for group in _by_question(found) for row in select(group, spec.keep, spec.max_similarity)]
        tables.write(pa.Table.from_pylist(chosen, schema=SELECTED), folder / "selected" / part.name)
    return {"samples_in": sum(row["tier"] != "C" for row in rows), "samples_kept": tables.count(folder / "selected")}


def _by_question(rows: Sequence[Row]) -> list[list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["question"], []).append(row)
    return list(groups.values())


def _fitted(rows: Sequence[Row], recipe: Factory) -> tuple[dict[str, Any], calibrate.Floats]:
    """What the report shows of the calibration, and each chain's probability; the agreement where nothing can be
    fitted, as all chains are right or all wrong.
    """
    signals, right = calibrate.signals_of(rows), np.array([row["right"] for row in rows])
    spec, questions = recipe.calibrate, [row["question"] for row in rows]
    if not 0 < right.sum() < len(right):
        return {"fitted": None, "chains": len(rows), "right": int(right.sum())}, signals[:, 2]
    fit = calibrate.fit(signals, right, spec.method)
    held = calibrate.cross_fitted(signals, right, questions, spec.method, spec.folds)
    about = {
        "fitted": asdict(fit),
        "chains": len(rows),
        "right": int(right.sum()),
        "reliability": asdict(calibrate.reliability(held, right)),
        "raw": asdict(calibrate.reliability(signals[:, 0], right)),
        "gain": asdict(calibrate.gain(questions, held, right, signals[:, 2])),
        "probability": [float(one) for one in held],
        "right_chains": [bool(one) for one in right],
    }
    return about, fit.predict(signals)
