"""The whole instruction job on raw rows by the hundred thousand and the million, with planted truth.

python benchmarks/scale.py [--rows 100000 1000000 10000000] [--out build/scale] [--runner spark]

Rows are grown from the demo's corpora (benchmarks/grown). Each size is curated by `keyeforge data curate` in a process
of its own; printed are time, CPU-seconds and peak memory of all its processes (proportional set size), disk, what
became of every planted fault, and the exponent of growth between the sizes.
"""

import argparse
import json
import math
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import psutil
import yaml

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from grown import rows as grown  # noqa: E402

from data_engine.demo_corpora import default_cache, fetch  # noqa: E402


def recipe(corpora: Path, target: int) -> dict[str, Any]:
    """Validate, measure, exact and near duplicates, leaks, difficulty, balance, gate, publish."""
    benchmark = {"format": "conversations", "path": "champ", "modality": "text", "task": "math", "licence": "MIT"}
    return {
        "root": str(corpora),
        "corpora": [
            {
                "corpus": "sft",
                "sources": [
                    {
                        "format": "conversations",
                        "path": "raw",
                        "modality": "image",
                        "task": "sft",
                        "licence": "MIT",
                    }
                ],
                "operators": [
                    {"turn_order": {}},
                    {"media_reference": {"allow_unseen": True}},
                    {"length": {"min_words": 1, "max_words": 4000}},
                    {"web_text": {"rules": ["gopher_repetition"]}},
                    {"difficulty": {}},
                    {"task_type": {}},
                ],
                "dedup": [
                    {"exact": {}},
                    {"minhash": {"threshold": 0.8}},
                    {"decontaminate": {"benchmarks": [benchmark]}},
                    {"balance": {"target": target}},
                ],
            }
        ],
        "gates": [
            {"measure": "kept", "min": 1},
            {"measure": "quarantined_share", "max": 0.02},
            {"measure": "duplicate_share", "max": 0.3},
        ],
        "target": "samples",
    }


def make(rows: int, folder: Path, corpora: Path) -> None:
    """Raw rows and their truth, by as many processes as there are cores; pictures and benchmark are hard links."""
    for name, inside in (("easy_vqa/images", "raw"), ("champ", "")):
        if not (folder / inside / name).exists():
            shutil.copytree(corpora / name, folder / inside / name, copy_function=os.link)
    ground = grown.soil(corpora)
    sizes = [min(grown.CHUNK, rows - start) for start in range(0, rows, grown.CHUNK)]
    with ProcessPoolExecutor(max_workers=2) as pool:
        for job in [pool.submit(grown.grow, ground, chunk, size, folder) for chunk, size in enumerate(sizes)]:
            job.result()


def curate(folder: Path, runner: str) -> dict[str, float]:
    """Runs the job; seconds, CPU-seconds and peak memory of all its processes."""
    command = [sys.executable, "-m", "keyeforge", "data", "curate", folder / "recipe.yaml", "--out", folder / "run"]
    started, peak, used = time.perf_counter(), 0, {}
    job = psutil.Popen([*map(str, command), "--runner", runner])
    while job.poll() is None:
        memory = 0
        for process in [job, *_children(job)]:
            try:
                memory += process.memory_full_info().pss
                times = process.cpu_times()
                used[process.pid] = times.user + times.system
            except psutil.Error:
                continue
        peak = max(peak, memory)
        time.sleep(1.0)
    if job.returncode:
        raise SystemExit(f"the job ended with {job.returncode}")
    return {"seconds": time.perf_counter() - started, "cpu_seconds": sum(used.values()), "peak_gib": peak / 2**30}


def _children(job: psutil.Process) -> list[psutil.Process]:
    try:
        return job.children(recursive=True)
    except psutil.Error:
        return []


def size_of(folder: Path) -> float:
    """GiB on disk of what the run itself wrote."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink()) / 2**30


def verdicts(folder: Path) -> dict[str, Any]:
    """What became of every kind of planted row, from the run's own tables."""
    steps = json.loads((folder / "run/run.json").read_text())["steps"]
    at = {name: folder / "run" / where for name, where in steps.items()}
    with duckdb.connect() as connection:
        connection.execute("SET memory_limit='6GB'")
        connection.execute(
            f"""CREATE TABLE rows AS SELECT t.row, t.of, t.kind, v.status, v.operator
            FROM read_parquet('{at["ingest.sft"]}/samples/*.parquet') AS s
            JOIN read_parquet('{at["dedup.sft"]}/verdicts/*.parquet') AS v ON s.id = v.id AND s.origin = v.origin
            JOIN read_parquet('{folder}/truth/*.parquet') AS t ON t.row = CAST(substr(s.attribution, 5) AS BIGINT)
            """
        )
        connection.execute("CREATE TABLE final AS SELECT kind, status, operator, count(*) AS n FROM rows GROUP BY ALL")
        # A copy may come before its original: then it is the original that goes. Missed is a pair of which both stay.
        missed = connection.sql(
            """SELECT a.kind, count(*), count(*) FILTER (b.status = 'kept' AND a.status = 'kept') FROM rows AS a
            JOIN rows AS b ON b.row = a.of WHERE a.kind IN ('exact', 'near') GROUP BY 1 ORDER BY 1"""
        ).fetchall()
        table = connection.sql("SELECT * FROM final ORDER BY ALL").fetchall()
        types = connection.sql(
            f"SELECT count(DISTINCT task_type) FROM read_parquet('{at['dedup.sft']}/measures/*.parquet')"
        ).fetchall()[0][0]
        refused = connection.sql(
            f"SELECT count(*) FROM read_parquet('{at['ingest.sft']}/quarantine/*.parquet')"
        ).fetchall()[0][0]
        planted = dict(
            connection.sql(f"SELECT kind, count(*) FROM read_parquet('{folder}/truth/*.parquet') GROUP BY 1").fetchall()
        )
    steps_cost = {
        name: json.loads((where / "step.json").read_text())
        for name, where in at.items()
        if (where / "step.json").exists()
    }
    return {
        "planted": planted,
        "pairs": [list(row) for row in missed],
        "became": [list(row) for row in table],
        "task_types": types,
        "refused": refused,
        "published": sum(n for _, status, _, n in table if status == "kept"),
        "steps": {name: [cost["seconds"], cost["cpu_seconds"], cost["bytes"]] for name, cost in steps_cost.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--out", type=Path, default=Path("build/scale"))
    parser.add_argument("--runner", default="spark")
    options = parser.parse_args()
    fetch()
    results = []
    for rows in options.rows:
        folder = (options.out / str(rows)).resolve()
        shutil.rmtree(folder / "run", ignore_errors=True)
        started = time.perf_counter()
        make(rows, folder, default_cache())
        made = time.perf_counter() - started
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe(folder, int(rows * 0.76))))
        found = {"rows": rows, "made_seconds": made, **curate(folder, options.runner)}
        found |= {"disk_gib": size_of(folder / "run"), "raw_gib": size_of(folder / "raw"), **verdicts(folder)}
        (folder / "result.json").write_text(json.dumps(found, indent=1))
        results.append(found)
        show(found)
    for before, after in pairwise(results):
        growth = math.log(after["cpu_seconds"] / before["cpu_seconds"]) / math.log(after["rows"] / before["rows"])
        print(f"growth of CPU-seconds from {before['rows']:,} to {after['rows']:,} rows: exponent {growth:.2f}")


def show(found: dict[str, Any]) -> None:
    print(
        f"{found['rows']:>12,} rows ({found['raw_gib']:.2f} GiB): {found['seconds'] / 60:.1f} min,"
        f" {found['cpu_seconds']:.0f} CPU-s, peak {found['peak_gib']:.1f} GiB, disk {found['disk_gib']:.2f} GiB;"
        f" published {found['published']:,} of {found['task_types']:,} task types"
    )
    for name, (seconds, cpu, size) in found["steps"].items():
        print(f"    {name:<20} {seconds:8.1f} s {cpu:8.1f} CPU-s {size / 2**20:9.1f} MiB")
    for kind, total, both in found["pairs"]:
        print(f"    {kind} pairs: {total:,} planted, both members kept: {both:,} ({both / total:.2%})")
    for kind, total in sorted(found["planted"].items()):
        became = ", ".join(f"{op or status} {n}" for k, status, op, n in found["became"] if k == kind)
        print(f"    {kind:<8} {total:>9,}: {became or 'refused ' + str(found['refused'])}")


if __name__ == "__main__":
    main()
