"""Where the time went: seconds and CPU-seconds of every step, stage and evaluation of the run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from data_engine import catalog
from data_engine.report.html import NotRunError, read_json, step_record, templates

HERE = Path(__file__).parent
KINDS = {"data": "for the data", "train": "for training", "eval": "for evaluation"}


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds that a part of the run took; CPU-seconds of all its processes and its counts where it left them."""

    name: str
    kind: str
    seconds: float
    cpu_seconds: float | None = None
    samples_kept: int | None = None
    bytes_per_sample_kept: float | None = None

    @property
    def family(self) -> str:
        """`ingest` of `ingest.stamps`."""
        return self.name.partition(".")[0]

    @property
    def corpus(self) -> str:
        return self.name.partition(".")[2]


def spent(data: Path) -> list[Spent]:
    """Every part of the run that left its time, in order. Empty where none did."""
    found = [_step(name, record) for name, record in _steps(data)]
    for folder in stage_folders(data):
        summary = read_json(folder / "summary.json", "")
        found.append(Spent(f"train {folder.name}", "train", summary["seconds"] + summary["heldout_seconds"]))
    for path in sorted((data / "eval").glob("*/summary.json")):
        seconds = read_json(path, "").get("seconds")
        found += [Spent(f"eval {path.parent.name}", "eval", seconds)] if seconds is not None else []
    if (fused := data / "fusion/summary.json").is_file():
        found.append(Spent("fusion", "eval", read_json(fused, "")["seconds"]))
    return found


def _step(name: str, record: dict[str, Any]) -> Spent:
    kept, each = record["counts"].get("samples_kept"), record["bytes_per_sample_kept"]
    return Spent(name, "data", record["seconds"], record["cpu_seconds"], kept, each)


def _steps(data: Path) -> list[tuple[str, dict[str, Any]]]:
    try:
        folders = catalog.steps(data)
    except catalog.CatalogError:
        return []
    return [(name, step_record(folder)) for name, folder in folders.items()]


def stage_folders(data: Path) -> list[Path]:
    """The folders of finished stages, in the order in which they were finished."""
    return sorted((path.parent for path in (data / "train").glob("*/summary.json")), key=_finished)


def _finished(folder: Path) -> float:
    return (folder / "summary.json").stat().st_mtime


def families(found: Sequence[Spent]) -> list[dict[str, Any]]:
    """One row per kind of step, all corpora together; `longest` are the up to three that took most of it."""
    rows = []
    for family in dict.fromkeys(one.family for one in found):
        mine = [one for one in found if one.family == family]
        metered = [one.cpu_seconds for one in mine if one.cpu_seconds is not None]
        longest = sorted((one for one in mine if one.corpus), key=lambda one: -one.seconds)[:3]
        seconds = sum(one.seconds for one in mine)
        cpu = sum(metered) if metered else None
        row = {"name": family, "kind": mine[0].kind, "seconds": seconds, "cpu_seconds": cpu, "longest": longest}
        rows.append(row)
    return rows


def section(data: Path) -> Markup:
    found = spent(data)
    if not found:
        raise NotRunError("not run yet: no step has left its time")
    rows = families(found)
    kinds = {said: sum(one.seconds for one in found if one.kind == kind) for kind, said in KINDS.items()}
    page = templates(HERE).get_template("times.html.jinja")
    longest = max(max(row["seconds"], row["cpu_seconds"] or 0.0) for row in rows)
    return Markup(page.render(rows=rows, parts=found, longest=longest, kinds=kinds))
