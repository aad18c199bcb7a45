"""Balance by task type: how many samples of each type there were, how many are left, and the cap between."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from data_engine import tables
from data_engine.report import figures
from data_engine.report.corpora import Pass, passes
from data_engine.report.html import read_json, render, svg

NUM_TYPES = 12


def section(data: Path) -> Markup:
    """Per balanced corpus a plot of samples per type, before and after, and its largest types."""
    return render("balance.html.jinja", corpora=[_told(one) for one in passes(data) if one.name == "balance"])


def _told(one: Pass) -> dict[str, Any]:
    about, plan = plan_of(one.folder)
    seen, kept = (plan[name].to_numpy() for name in ("seen", "kept"))
    plot = figures.ranks(seen, kept, about["cap"]) if len(plan) else None
    return {
        **about,
        "corpus": one.corpus,
        "plot": svg(plot, f"Samples per task type of {one.corpus}, before and after") if plot else None,
        "surviving": int(np.count_nonzero(kept)),
        "cut": int(np.count_nonzero(kept < seen)),
        "rows": plan.slice(0, NUM_TYPES).to_pylist(),
        "weighted": bool(np.any(plan["weight"].to_numpy() != 1)),
    }


def plan_of(folder: Path) -> tuple[dict[str, Any], pa.Table]:
    """balance.json, and the plan (task_type, weight, seen, kept), the largest type first."""
    plan = tables.read(folder / "plan_by_type")
    order = [("seen", "descending"), ("task_type", "ascending")]
    return read_json(folder / "balance.json", "not run yet: the balance left no plan"), plan.sort_by(order)
