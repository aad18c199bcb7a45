"""The figures about data, drawn by matplotlib in the light colours. Each fits a phone without being scaled down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from data_engine.report.palette import LIGHT

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Threshold:
    """A bound of the recipe on one measure: what is below a `min` or above a `max` is dropped."""

    side: Literal["min", "max"]
    value: float


def axes(width: float, height: float, *, x: str = "", y: str = "") -> tuple[Figure, Axes]:
    """An empty figure of `width` x `height` inches in the report's style: light lines, no box."""
    figure = Figure(figsize=(width, height), layout="constrained")
    plot = figure.add_subplot()
    for side in ("top", "right", "left"):
        plot.spines[side].set_visible(False)
    plot.spines["bottom"].set_color(LIGHT["line"])
    plot.tick_params(colors=LIGHT["muted"], labelsize=8, length=0, pad=4)
    plot.grid(axis="y", color=LIGHT["line"], linewidth=0.6)
    plot.set_axisbelow(True)
    plot.set_xlabel(x, color=LIGHT["muted"], fontsize=8)
    plot.set_ylabel(y, color=LIGHT["muted"], fontsize=8)
    plot.yaxis.set_major_formatter(FuncFormatter(short))
    return figure, plot


def short(value: float, position: int = 0) -> str:  # noqa: ARG001 - matplotlib gives the tick's place
    """`1200` as `1,200`, `0.5` as `0.5`, for ticks."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"


def write(plot: Axes, x: float, y: float, text: str, colour: str, **kwargs: Any) -> None:
    """A short direct label, in place of a legend."""
    plot.annotate(
        text, (x, y), color=LIGHT[colour], fontsize=8, textcoords="offset points", **{"xytext": (4, 0), **kwargs}
    )


def histogram(kept: Values, dropped: Values, thresholds: Sequence[Threshold], label: str) -> Figure:
    """How a measure is spread: kept samples, dropped ones on top, the recipe's bounds as dashed lines."""
    figure, plot = axes(3.3, 2.0, x=label)
    everything = np.concatenate([kept, dropped, [bound.value for bound in thresholds]])
    edges, logarithmic = bins(everything, whole=bool(np.all(kept == np.round(kept))))
    plot.hist([kept, dropped], edges.tolist(), stacked=True, color=[LIGHT["kept"], LIGHT["dropped"]], rwidth=0.92)
    if logarithmic:
        plot.set_xscale("log")
        plot.xaxis.set_minor_formatter(FuncFormatter(lambda value, place: ""))
    plot.xaxis.set_major_formatter(FuncFormatter(short))
    plot.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    plot.set_ylim(top=plot.get_ylim()[1] * 1.12)
    for bound in thresholds:
        plot.axvline(bound.value, color=LIGHT["ink"], linewidth=1, linestyle=(0, (4, 3)))
        left = bound.side == "max"
        place = {"ha": "right" if left else "left", "va": "top", "xytext": (-3 if left else 3, 0)}
        write(plot, bound.value, plot.get_ylim()[1], f"{bound.side} {bound.value:g}", "ink", **place)
    return figure


def bins(values: Values, *, whole: bool) -> tuple[Values, bool]:
    """Bin edges over all values, and whether the axis is logarithmic (positive values over two decades)."""
    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low > 100:
        return np.geomspace(low, high * 1.0001, 31), True
    if whole and high - low <= 40:
        return np.arange(low - 0.5, high + 1.0), False
    return np.linspace(low, high if high > low else low + 1, 31), False


def ranks(before: Values, after: Values, cap: float) -> Figure:
    """Samples per task type, the largest first, before and after balancing; dashed: the cap. Both axes logarithmic."""
    figure, plot = axes(4.6, 2.7, x="task types, the largest first", y="samples")
    places = np.unique(np.geomspace(1, len(before), 400).round().astype(int)) - 1
    for values, colour, width in ((before, "other", 4.0), (np.sort(after)[::-1], "kept", 1.8)):
        plot.plot(
            places + 1, np.maximum(values[places], 0.5), color=LIGHT[colour], linewidth=width, drawstyle="steps-mid"
        )
    plot.axhline(cap, color=LIGHT["ink"], linewidth=1, linestyle=(0, (4, 3)))
    plot.set_xscale("log")
    plot.set_yscale("log")
    for axis in (plot.xaxis, plot.yaxis):
        axis.set_major_formatter(FuncFormatter(short))
        axis.set_minor_formatter(FuncFormatter(lambda value, place: ""))
    plot.tick_params(which="minor", length=0)
    write(plot, len(before), cap, f"cap {cap:,.0f}", "ink", ha="right", xytext=(0, 4))
    return figure


def shares_along(positions: Values, shares: Mapping[str, Values], targets: Mapping[str, float]) -> Figure:
    """The share of tokens of each modality among all tokens so far, along the epoch; dashed: the target."""
    figure, plot = axes(4.6, 2.5, x="place in the epoch")
    top = max(0.6, 1.15 * max(targets.values()))
    lowest = 0.0
    for name, line in sorted(shares.items(), key=lambda item: float(item[1][-1])):
        plot.axhline(targets.get(name, 0.0), color=LIGHT["muted"], linewidth=0.8, linestyle=(0, (4, 3)))
        plot.plot(positions, line, color=LIGHT[name], linewidth=1.6)
        place = max(float(line[-1]), lowest)
        write(plot, positions[-1], place, f"{name} {100 * line[-1]:.1f} %", name, va="center", xytext=(6, 0))
        lowest = place + 0.07 * top
    plot.set_ylim(0, top)
    plot.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{100 * value:.0f} %"))
    plot.xaxis.set_major_formatter(FuncFormatter(short))
    plot.xaxis.set_major_locator(MaxNLocator(4))
    plot.set_xlim(0, float(positions[-1]))
    return figure


def similarities(times: Sequence[float], similarity: Sequence[float], is_slow: Sequence[bool], at: float) -> Figure:
    """Each frame's similarity to the latest slow frame; at or under the threshold `at` it becomes slow itself.

    The first frame has none to be compared with: it is drawn below the axis of similarity.
    """
    figure, plot = axes(4.6, 2.5, x="seconds")
    place, slow = np.array([-0.12, *similarity[1:]]), np.array(is_slow)
    plot.vlines(times, place, at, color=LIGHT["line"], linewidth=1.4, zorder=1)
    plot.axhline(at, color=LIGHT["ink"], linewidth=1, linestyle=(0, (4, 3)))
    write(plot, times[-1], at, f"threshold {at:g}", "ink", xytext=(0, -12), ha="right")
    for name, chosen, marker in (("slow", slow, "s"), ("fast", ~slow, "o")):
        plot.scatter(np.array(times)[chosen], place[chosen], s=34, color=LIGHT[name], marker=marker, zorder=2)
    write(plot, times[0], place[0], "first frame", "muted", xytext=(9, -3))
    plot.set_ylim(-0.22, 1.1)
    plot.set_yticks([0, 0.25, 0.5, 0.75, 1])
    return figure
