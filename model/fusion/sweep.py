"""Which expert, after how many steps, with what weight: chosen on half of the items, reported on the other half.

The report (arXiv 2509.01563, section 4.3.2) finds that the merged model gets better and then worse with the expert's
steps: too small a divergence gains little, too large a one hurts.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.table import Table

from model.fusion.merge import merge
from model.fusion.methods import Method
from model.fusion.recipe import MergeModel, MergeRecipe

Evaluate = Callable[[Path], Mapping[str, float]]
"""A model folder to a score per item id."""


class SweepError(ValueError):
    """A sweep that cannot be run: the message names the candidate or the folder, and the fix."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One merge to be tried; `steps` are those the expert was trained for, if known."""

    label: str
    steps: int | None
    weight: float
    recipe: MergeRecipe


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate's mean score on either half, the standard error of `report`, and how far its experts had gone.

    `divergence` is the mean over the merged models of `||x - b|| / ||b||`, all tensors together.
    """

    label: str
    steps: int | None
    weight: float
    choose: float
    report: float
    stderr: float
    divergence: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """All candidates, and the one that is best on the half for choosing (the earlier of equals).

    `gap` is the best's score where it was chosen less that where it was not: what choosing flatters it by, and noise.
    """

    rows: list[Row]
    best: Row
    gap: float
    num_choose: int
    num_report: int


def sweep(candidates: Sequence[Candidate], evaluate: Evaluate, out: Path, *, keep_best: bool = True) -> Sweep:
    """Merges and scores every candidate; writes `out/sweep.json` and, if asked, the best as `out/best`.

    Every candidate must be scored on the same items; a merged folder is gone once it is scored, unless it is the best
    so far. Raises SweepError, and what `merge` raises.
    """
    if not candidates:
        raise SweepError("candidates: there are none; give at least one")
    if out.exists() and any(out.iterdir()):
        raise SweepError(f"{out}: is not empty; remove it or choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    items: frozenset[str] | None = None
    folder = out / ".candidate"
    try:
        for candidate in candidates:
            row, seen = _try(candidate, evaluate, folder)
            items = seen if items is None else items
            if seen != items:
                odd = min(seen ^ items)
                raise SweepError(f"candidate {candidate.label}: scored on other items than the first, e.g. {odd}")
            rows.append(row)
            _keep(folder, out / "best", keep_best and row is best_of(rows))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _write(rows, items or frozenset(), out)


def expert_grid(
    base: Path,
    experts: Sequence[tuple[str, int, Path]],
    weights: Sequence[float],
    method: Literal["task_arithmetic", "dare_linear"] = "task_arithmetic",
    density: float | None = None,
) -> list[Candidate]:
    """Every expert (label, steps, folder) merged into `base` with every weight: `b + w (x - b)`.

    `density` is what DARE keeps. The other methods divide by the weights, so that one expert's would change nothing.
    """
    return [
        Candidate(f"{label} x {weight:g}", steps, weight, _into_base(base, folder, weight, method, density))
        for label, steps, folder in experts
        for weight in weights
    ]


def half_of(item: str) -> str:
    """`choose` or `report`: a function of the item's id alone, so that it stays what it is when items are added."""
    return "choose" if hashlib.sha256(item.encode()).digest()[0] % 2 else "report"


def best_of(rows: Sequence[Row]) -> Row:
    """The first of those with the highest score on the half for choosing."""
    return max(rows, key=lambda row: row.choose)


def sweep_table(sweep: Sweep) -> Table:
    """One line per candidate; the chosen one is marked."""
    title = f"chosen on {sweep.num_choose} items, reported on {sweep.num_report}"
    table = Table(title=title, caption=f"the best scores {sweep.gap:+.4f} more where it was chosen")
    for column in ("", "candidate", "steps", "weight", "divergence", "choose", "report"):
        table.add_column(column, justify="left" if column in ("", "candidate") else "right")
    for row in sweep.rows:
        steps = "" if row.steps is None else f"{row.steps:,}"
        scores = (f"{row.choose:.4f}", f"{row.report:.4f} ± {row.stderr:.4f}")
        mark = "*" if row == sweep.best else ""
        table.add_row(mark, row.label, steps, f"{row.weight:g}", f"{row.divergence:.2e}", *scores)
    return table


def _into_base(base: Path, expert: Path, weight: float, method: Method, density: float | None) -> MergeRecipe:
    return MergeRecipe(method=method, base=base, models=(MergeModel(path=expert, weight=weight, density=density),))


def _try(candidate: Candidate, evaluate: Evaluate, folder: Path) -> tuple[Row, frozenset[str]]:
    """Merges into `folder` and scores what came out."""
    distances = merge(candidate.recipe, folder).whole.distances
    scores = evaluate(folder)
    halves = {half: [scores[item] for item in sorted(scores) if half_of(item) == half] for half in ("choose", "report")}
    for half, values in halves.items():
        if len(values) < 2:
            raise SweepError(f"candidate {candidate.label}: {len(values)} items to {half} on; evaluate more items")
    if not all(math.isfinite(score) for score in scores.values()):
        raise SweepError(f"candidate {candidate.label}: evaluate gave a score that is not a finite number")
    row = Row(
        candidate.label,
        candidate.steps,
        candidate.weight,
        choose=_mean(halves["choose"]),
        report=_mean(halves["report"]),
        stderr=_stderr(halves["report"]),
        divergence=_mean(distances),
    )
    return row, frozenset(scores)


def _keep(folder: Path, best: Path, is_best: bool) -> None:
    """Makes the candidate the best, or removes it."""
    shutil.rmtree(best if is_best else folder, ignore_errors=True)
    if is_best:
        folder.rename(best)


def _write(rows: list[Row], items: frozenset[str], out: Path) -> Sweep:
    best = best_of(rows)
    num_choose = sum(half_of(item) == "choose" for item in items)
    done = Sweep(rows, best, best.choose - best.report, num_choose, len(items) - num_choose)
    hidden = out / ".sweep.json"
    hidden.write_text(json.dumps(asdict(done), indent=1), encoding="utf-8")
    hidden.rename(out / "sweep.json")
    return done


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _stderr(values: Sequence[float]) -> float:
    """Of the mean, items taken as independent."""
    mean = _mean(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(variance / len(values))
