"""The top of the page: the figures that say how the run went, and what ran where."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from data_engine import catalog
from data_engine.report import mix
from data_engine.report.html import NotRunError, duration, number, percent, read_json, size
from eval.report import answers, times, training

PACKAGES = ("torch", "transformers", "deepspeed", "pyspark", "ray", "duckdb")


def machine() -> str:
    """The machine and the versions that wrote this page."""
    cores, memory = psutil.cpu_count(), psutil.virtual_memory().total / 2**30
    versions = ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name)))
    return f"{platform.machine()}, {cores} cores, {memory:.0f} GiB; Python {platform.python_version()}, {versions}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ModuleNotFoundError:
        return None


def facts(data: Path) -> list[tuple[str, str]]:
    """What ran: the folder, when it ended, how long it took, and the most memory that it held."""
    summary = read_json(data / "summary.json", "") if (data / "summary.json").is_file() else {}
    ended = [path.stat().st_mtime for path in (data / "run.json", *data.glob("*/*/summary.json")) if path.is_file()]
    found = [("Run", data.resolve().name)]
    if ended:
        found.append(("Ended", datetime.fromtimestamp(max(ended), UTC).strftime("%Y-%m-%d %H:%M UTC")))
    whole = summary.get("seconds", {}).get("total")
    parts = sum(one.seconds for one in times.spent(data))
    if whole is not None:
        found.append(("From start to end", duration(whole)))
    if parts:
        found.append(("All parts together", duration(parts)))
    if peak := summary.get("peak_memory_bytes"):
        found.append(("Peak memory", size(peak)))
    return found


def cards(data: Path) -> list[dict[str, Any]]:
    """The key figures; one that the run has not come to has no value."""
    makers = (_kept, _tokens, _mix, _accuracy, _looks)
    return [_or_missing(maker, data) for maker in makers]


def _or_missing(maker: Any, data: Path) -> dict[str, Any]:
    title = maker.__doc__.rstrip(".")
    try:
        return {"title": title, **maker(data)}
    except NotRunError:
        return {"title": title, "value": None, "note": "not run yet"}


def _kept(data: Path) -> dict[str, Any]:
    """Samples kept."""
    counts = read_json(data / "summary.json", "").get("corpora", {}).values()
    kept, ingested = sum(row["kept"] for row in counts), sum(row["ingested"] for row in counts)
    return {"value": number(kept), "note": f"of {number(ingested)} read, {percent(kept / max(ingested, 1))}"}


def _tokens(data: Path) -> dict[str, Any]:
    """Tokens kept."""
    try:
        with catalog.open_catalog(data) as connection:
            if not catalog.has(connection, "tokens"):
                raise NotRunError("")
            row = catalog.rows(connection, "SELECT sum(tokens) AS all, sum(visual_tokens) AS visual FROM tokens")[0]
    except catalog.CatalogError as error:
        raise NotRunError("") from error
    return {"value": number(row["all"]), "note": f"{percent(row['visual'] / max(row['all'], 1), 0)} of them pictures"}


def _mix(data: Path) -> dict[str, Any]:
    """Mix error."""
    found = mix.report(data)
    return {
        "value": percent(found["error"], 3),
        "note": f"the largest sample is {percent(found['bound'], 3)} of the epoch",
    }


def _accuracy(data: Path) -> dict[str, Any]:
    """easy-vqa accuracy."""
    found = answers.summary(data)
    note = f"question only {percent(found['question_only_baseline'])}, majority {percent(found['majority_baseline'])}"
    return {"value": percent(found["accuracy"]), "note": note}


def _looks(data: Path) -> dict[str, Any]:
    """Held-out loss."""
    judged = [one for one in training.summaries(data) if one["heldout_loss_shuffled_images"] is not None]
    if not judged:
        raise NotRunError("")
    last = judged[-1]
    return {
        "value": f"{last['heldout_loss']:.3f}",
        "note": f"{last['heldout_loss_shuffled_images']:.3f} with others' pictures, after {last['stage']}",
    }
