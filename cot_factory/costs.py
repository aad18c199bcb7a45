"""The ledger of costs: tokens, requests and reviewer minutes, by step and for each sample that is kept."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from cot_factory.record import Decision
from data_engine import tables
from data_engine.teachers.counts import Counts, summary

SCHEMA = pa.schema([("counts", pa.string())])
STEPS = ("enhance", "generate", "assess", "repair", "score")


def table(counts: Counts) -> dict[str, pa.Table]:
    """What a partition asked, as the table `asked` of its step; none where nobody was asked."""
    told = counts.as_data()
    return {"asked": pa.Table.from_pylist([{"counts": json.dumps(told)}], schema=SCHEMA)} if told else {}


def ledger(folders: Mapping[str, Path], decisions: Iterable[Decision], kept: int) -> dict[str, Any]:
    """`steps`: tokens, requests (newly sent and known already) and cost of each; their `total`; `reviewer_minutes`;
    and all of it `per_kept_sample` (None where nothing was kept).
    """
    steps = {name: _of_step(folder) for name, folder in folders.items() if name in STEPS}
    total = {key: sum(step[key] for step in steps.values()) for key in _KEYS}
    minutes = sum(one.seconds for one in decisions) / 60
    spent = {**total, "reviewer_minutes": minutes}
    each = {name: value / kept if kept else None for name, value in spent.items()}
    return {"steps": steps, "total": total, "reviewer_minutes": minutes, "kept": kept, "per_kept_sample": each}


_KEYS = ("requests", "answered", "cached", "prompt_tokens", "completion_tokens", "cost")


def _of_step(folder: Path) -> dict[str, Any]:
    found = summary(json.loads(row["counts"]) for row in tables.rows(folder / "asked"))
    return {key: sum(teacher[key] for teacher in found.values()) for key in _KEYS}
