"""What is told of a run's tables, told anew after rows were taken out of them; safe to repeat."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from data_engine import catalog, making, queues, shards, tables
from data_engine.finish import corpus_counts
from data_engine.media import write_atomic
from data_engine.rights import Rights, write_attribution
from data_engine.select import statuses

Counts = dict[str, int]


def input_of(data: Path, step: Path, number: int) -> Path:
    """The folder of the step that was input `number` of a step."""
    wanted = catalog.record(step)["inputs"][number]
    return next(path for path in (data / "steps").glob(f"[!.]*-{wanted}"))


def refresh(data: Path, touched: Sequence[Path]) -> None:
    """Counts in step.json, what is owed for shards, the releases' checksums, and the run's summary."""
    for step in touched:
        record = catalog.record(step)
        record["counts"] = _counts(data, step, record)
        write_atomic(step / "step.json", json.dumps(record, indent=1, default=str).encode())
        if (step / "shards" / "ATTRIBUTION.md").exists():
            pool = tables.parts(input_of(data, step, 0) / "pool")
            owing = Rights(attribution=record["config"]["attribution"])
            write_attribution(pool, owing, step / "shards" / "ATTRIBUTION.md")
    for step in sorted((data / "steps").glob("release-*")):
        _refresh_release(step)
    _refresh_summary(data)


def _counts(data: Path, step: Path, record: dict[str, Any]) -> Counts:
    counts: Counts = dict(record["counts"])
    tabled = [name for name in counts if any((step / name).glob("*.parquet"))]
    counts |= {name: tables.count(step / name) for name in tabled}
    if (step / "unmade").is_dir():
        counts["lost"] = making.count_lost(step)
    if (step / "queues").is_dir():
        return counts | queues.counted(step / "queues")
    if (step / "verdicts").is_dir():
        return counts | statuses(tables.parts(step / "verdicts"))
    if (step / "drops").is_dir():
        return counts | {"samples_dropped": tables.count(step / "drops"), "samples_in": _alive(data, record)}
    if (step / "pool").is_dir():
        return counts | _mixed(step)
    if (step / "shards").is_dir():
        made = len(list((step / "shards").glob("*.tar")))
        return counts | {"shards": made, "samples_kept": tables.count(step / "index")}
    return counts | ({"samples_kept": counts[tabled[0]]} if tabled and "samples_kept" in counts else {})


def _alive(data: Path, record: dict[str, Any]) -> int:
    """What a pass was given: the rows that the operators kept and no pass before it dropped."""
    steps = ((data / "steps").glob(f"[!.]*-{digest}") for digest in record["inputs"])  # some are hashes of files
    folders = [folder for found in steps for folder in found]
    kept = statuses(tables.parts(folders[0] / "verdicts"))["samples_kept"]
    return kept - sum(tables.count(folder / "drops") for folder in folders[1:])


def _mixed(step: Path) -> Counts:
    pool = tables.count(step / "pool")
    tokens = sum(pc.sum(pq.read_table(part, columns=["tokens"])["tokens"]).as_py() or 0
                 for part in tables.parts(step / "plan"))  # fmt: skip
    epoch = tables.count(step / "plan")
    return {"samples_in": pool, "samples_kept": pool, "epoch_samples": epoch, "epoch_tokens": tokens}


def _refresh_release(step: Path) -> None:
    path = step / "manifest.json"
    manifest = json.loads(path.read_text())
    for corpus, about in manifest.items():
        files = tables.parts(step / corpus)
        about["samples"] = sum(map(tables.num_rows, files))
        about["parts"] = {file.name: xxhash.xxh3_64_hexdigest(file.read_bytes()) for file in files}
    write_atomic(path, json.dumps(manifest, indent=1).encode())
    record = catalog.record(step)
    record["counts"]["samples_kept"] = sum(about["samples"] for about in manifest.values())
    write_atomic(step / "step.json", json.dumps(record, indent=1, default=str).encode())


def _refresh_summary(data: Path) -> None:
    path = data / "summary.json"
    if not path.exists():
        return
    summary, steps = json.loads(path.read_text()), catalog.steps(data)
    counts = {name: catalog.record(folder)["counts"] for name, folder in steps.items()}
    for corpus in summary.get("corpora", {}):
        summary["corpora"][corpus] = corpus_counts(counts, corpus)
    if "shards" in summary and "shards" in steps:
        summary["shards"] = shards.summary(steps["shards"] / "shards")
    write_atomic(path, json.dumps(summary, indent=1, ensure_ascii=False).encode())
