"""The stages: loss curves, speed, and the loss on held-out samples with their own pictures and with others'."""

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data_engine.report import figures
from data_engine.report.figures import Values
from data_engine.report.html import NotRunError, read_json, svg, templates
from data_engine.report.palette import LIGHT
from eval.report.times import stage_folders
from train.record import Row, read_rows
from train.stages import COMPONENTS

HERE = Path(__file__).parent
MISSING = "not run yet: keyeforge train STAGE RECIPE --data DIR"


def summaries(data: Path) -> list[dict[str, Any]]:
    """The summary of every finished stage, in the order of training."""
    return [read_json(folder / "summary.json", MISSING) for folder in stage_folders(data)]


def section(data: Path) -> Markup:
    folders = stage_folders(data)
    if not folders:
        raise NotRunError(MISSING)
    stages = [_stage(folder) for folder in folders]
    shown = [loss for stage in stages for loss in (stage["heldout_loss"], stage["heldout_loss_shuffled_images"])]
    highest = max((loss for loss in shown if loss is not None), default=1.0)
    page = templates(HERE).get_template("training.html.jinja")
    return Markup(page.render(stages=stages, highest=highest, components=COMPONENTS))


def _stage(folder: Path) -> dict[str, Any]:
    summary = read_json(folder / "summary.json", MISSING)
    rows = read_rows(folder / "metrics.jsonl")
    name = folder.name
    return {
        "name": name,
        **summary,
        "speed": summary["tokens"] / max(summary["seconds"], 1e-9),
        "loss_plot": svg(loss_curve(rows), f"Loss of {name} over its steps"),
        "speed_plot": svg(speed_curve(rows), f"Tokens a second of {name} over its steps"),
    }


def loss_curve(rows: list[Row]) -> Figure:
    """The loss of each step, faint, and its running mean over 5 % of the steps."""
    figure, plot = figures.axes(2.7, 1.9, x="step")
    steps, losses = _column(rows, "step"), _column(rows, "loss")
    mean = running_mean(losses, max(1, round(0.05 * len(losses))))
    plot.plot(steps, losses, color=LIGHT["other"], linewidth=0.8)
    plot.plot(steps, mean, color=LIGHT["image"], linewidth=1.8)
    plot.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    plot.set_ylim(bottom=0)
    return figure


def speed_curve(rows: list[Row]) -> Figure:
    """Tokens a second at each step."""
    figure, plot = figures.axes(2.7, 1.1, x="step")
    plot.plot(_column(rows, "step"), _column(rows, "tokens_per_second"), color=LIGHT["text"], linewidth=1.0)
    plot.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    plot.yaxis.set_major_locator(MaxNLocator(3))
    plot.set_ylim(bottom=0)
    return figure


def _column(rows: list[Row], name: str) -> Values:
    return np.array([row[name] for row in rows], dtype=np.float64)


def running_mean(values: Values, width: int) -> Values:
    """The mean of each value and the up to `width` - 1 before it."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    mean: Values = (sums[ends] - sums[starts]) / (ends - starts)
    return mean
