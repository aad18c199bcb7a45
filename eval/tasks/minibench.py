"""The bundled mini-benchmark as a task: `eval.minibench` draws it, so no file has to be fetched."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_engine.media import encode_jpeg, write_atomic
from eval.minibench.items import KINDS, Item, chance, items
from eval.minibench.sheet import picture, spread
from eval.runner import Answerer
from eval.tasks.instance import Instance, Progress, run, scores, write

EXAMPLES_PER_KIND = 2
EXAMPLE_SIDE = 288


def instances() -> list[Instance]:
    """All items of seed 0."""
    return [_instance(item) for item in items()]


def _instance(item: Item) -> Instance:
    words = (item.id, item.kind, item.question, item.answer, item.choices)
    return Instance(*words, media=item.media, blank=item.blank, cluster=item.id)


def judge(answerer: Answerer, found: Sequence[Item], out: Path, on_progress: Progress) -> dict[str, Any]:
    """Accuracy on the items `found` with their media and with blank ones, per kind, beside what not looking reaches.

    Leaves `out`/predictions.jsonl, summary.json, and pictures/ with a few items of each kind for the report.
    """
    started = time.perf_counter()
    rows = run(answerer, [_instance(item) for item in found], out, "mini-benchmark", on_progress)
    blind = chance(found)
    num = {kind: sum(item.kind == kind for item in found) for kind in KINDS}
    for kind in KINDS:
        for item in spread([item for item in found if item.kind == kind], EXAMPLES_PER_KIND):
            _write_picture(item, out / "pictures" / f"{item.id}.jpg")
    summary = {
        **scores(rows, [row["id"] for row in rows], blind),
        "chance": sum(blind[kind] * num[kind] for kind in KINDS) / len(found),
        "weights": answerer.weights,
        "seconds": round(time.perf_counter() - started, 1),
    }
    write(out, rows, summary)
    return summary


def _write_picture(item: Item, path: Path) -> None:
    write_atomic(path, encode_jpeg(np.asarray(picture(item.media, EXAMPLE_SIDE))))
