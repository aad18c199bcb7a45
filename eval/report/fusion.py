"""Fusion: the quality of merges against weight and steps, and how far the experts lie from their base."""

from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from data_engine.report import figures
from data_engine.report.html import read_json, svg, templates
from data_engine.report.palette import LIGHT

HERE = Path(__file__).parent
MISSING = "not run yet: keyeforge eval sweep eval/recipes/fusion.yaml --data DIR"
COLOURS = ("image", "video", "text", "quarantined", "dropped", "right")
"""One a line, from the fewest steps on; a seventh begins anew."""

Row = dict[str, Any]


def section(data: Path) -> Markup:
    summary = read_json(data / "fusion/summary.json", MISSING)
    divergence = read_json(data / "fusion/best/divergence.json", MISSING)
    plot = svg(
        quality(summary["rows"], summary["best"]), "Share of right answers of the merges against the expert's weight"
    )
    rows = [divergence["whole"], *divergence["modules"]]
    longest = max(max(row["distances"][0], row["merged_distance"]) for row in rows) or 1.0
    page = templates(HERE).get_template("fusion.html.jinja")
    return Markup(page.render(summary=summary, plot=plot, modules=rows, longest=longest))


def lines(rows: list[Row]) -> dict[tuple[str, int], list[Row]]:
    """For each expert (label and steps) its merges by weight, the base, which is weight 0 of all, before them."""
    base = [row for row in rows if row["steps"] is None]
    experts = sorted({_expert(row) for row in rows if row["steps"] is not None}, key=lambda one: (one[1], one[0]))
    return {
        one: base + sorted((row for row in rows if _expert(row) == one), key=lambda row: row["weight"])
        for one in experts
    }


def _expert(row: Row) -> tuple[str, int]:
    """`sft` of `sft x 0.5`, and the steps; the base has -1."""
    return row["label"].rpartition(" x ")[0], -1 if row["steps"] is None else row["steps"]


def quality(rows: list[Row], best: Row) -> Figure:
    """Quality on the half for reporting against the weight, one line an expert; the chosen merge in a ring."""
    figure, plot = figures.axes(4.6, 3.0, x="weight of the expert")
    found = lines(rows)
    for number, mine in enumerate(found.values()):
        colour = LIGHT[COLOURS[number % len(COLOURS)]]
        plot.plot(
            [row["weight"] for row in mine], [row["report"] for row in mine], color=colour, marker="o", ms=4, lw=1.6
        )
    plot.errorbar(best["weight"], best["report"], best["stderr"], color=LIGHT["ink"], lw=1, capsize=3, zorder=3)
    plot.scatter(
        best["weight"], best["report"], s=90, facecolors="none", edgecolors=LIGHT["ink"], linewidths=1.4, zorder=4
    )
    plot.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{100 * value:.0f} %"))
    plot.margins(x=0.03, y=0.12)
    _name_lines(plot, found)
    return figure


def _name_lines(plot: Axes, found: dict[tuple[str, int], list[Row]]) -> None:
    """Each expert at the end of its line, names kept apart."""
    low, high = plot.get_ylim()
    lowest = low
    ends = sorted(enumerate(found.items()), key=lambda one: one[1][1][-1]["report"])
    for number, ((label, steps), mine) in ends:
        place = max(mine[-1]["report"], lowest)
        colour = COLOURS[number % len(COLOURS)]
        figures.write(plot, mine[-1]["weight"], place, f"{label}, {steps:,} steps", colour, va="center", xytext=(9, 0))
        lowest = place + 0.075 * (high - low)
