"""Tiers, calibration, confidence, scores, repeats and costs of a run of the factory (DIR/cot), and some chains."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from markupsafe import Markup
from matplotlib.figure import Figure

from cot_factory.question import Question, from_table, steps_of
from data_engine import tables
from data_engine.media import MediaStore, decode_image, store_of
from data_engine.report import figures
from data_engine.report.html import NotRunError, read_json, svg, templates, thumbnail
from data_engine.report.palette import LIGHT

HERE = Path(__file__).parent
FOLDER = "cot"
MISSING = "not run yet: keyeforge cot run RECIPE --out DIR/cot"
SHOWN = 3


def section(data: Path) -> Markup:
    """Of the run in `data`/cot, or in `data` itself. Raises NotRunError."""
    run = data / FOLDER if (data / FOLDER / "summary.json").is_file() else data
    summary = read_json(run / "summary.json", MISSING)
    if "calibration" not in summary:
        raise NotRunError(MISSING)
    steps: dict[str, str] = json.loads((run / "run.json").read_bytes())["steps"]
    folders = {name: run / where for name, where in steps.items()}
    rows = tables.rows(folders["assess"] / "assessed")
    about = read_json(folders["calibrate"] / "calibration.json", MISSING)
    page = templates(HERE).get_template("section.html.jinja")
    return Markup(
        page.render(
            summary=summary,
            tiers=Counter(row["tier"] for row in rows),
            reasons=Counter(_family(row["reason"]) for row in rows if row["tier"] != "A").most_common(8),
            histogram=svg(_histogram(rows), "Confidence of right and of wrong chains"),
            reliability=svg(_reliability(about), "Reliability of the calibration") if "reliability" in about else None,
            scores=_scores(folders),
            chains=_chains(run, folders),
            run=run,
        )
    )


def _family(reason: str) -> str:
    """`flawed`, `answer wrong`, `redundant`: a reason without its particulars."""
    return reason.partition(":")[0]


def _histogram(rows: list[dict[str, Any]]) -> Figure:
    right = np.array([row["confidence"] for row in rows if row["right"]])
    wrong = np.array([row["confidence"] for row in rows if not row["right"]])
    figure, plot = figures.axes(3.3, 2.2, x="confidence of the whole chain")
    edges = np.linspace(0, 1, 21).tolist()
    plot.hist([right, wrong], edges, stacked=True, color=[LIGHT["right"], LIGHT["dropped"]], rwidth=0.92)
    top = plot.get_ylim()[1]
    figures.write(plot, 0.02, top * 0.92, f"right {len(right)}", "right")
    figures.write(plot, 0.02, top * 0.8, f"wrong {len(wrong)}", "dropped")
    return figure


def _reliability(about: dict[str, Any]) -> Figure:
    """How often chains were right, by the probability that they were given; without calibration, fainter."""
    figure, plot = figures.axes(3.3, 2.2, x="probability given", y="share right")
    plot.plot([0, 1], [0, 1], color=LIGHT["muted"], linewidth=0.8, linestyle=(0, (4, 3)))
    for name, colour, width in (("raw", "other", 1.2), ("reliability", "image", 1.8)):
        found = about[name]
        plot.plot(found["predicted"], found["observed"], color=LIGHT[colour], linewidth=width, marker="o", markersize=3)
    plot.set_xlim(0, 1)
    plot.set_ylim(0, 1)
    figures.write(plot, 0.02, 0.9, "calibrated, cross-fitted", "image")
    figures.write(plot, 0.02, 0.78, "confidence as it is", "muted")
    return figure


def _scores(folders: dict[str, Path]) -> list[dict[str, int]]:
    """Per score: chains, and their repeats in the next round."""
    score = {row["id"]: row["score"] for row in tables.rows(folders["release"] / "chains", ["id", "score"])}
    repeats = pq.read_table(folders["repeats"] / "repeats.parquet").to_pylist()
    chains, times = Counter(score.values()), Counter[int]()
    for row in repeats:
        times[score[row["id"]]] += row["repeats"]
    return [{"score": one, "chains": chains[one], "repeats": times[one]} for one in range(1, 6)]


def _chains(run: Path, folders: dict[str, Path]) -> list[dict[str, Any]]:
    """The surest chain of each tier, with its picture."""
    questions: dict[str, Question] = {}
    for part in tables.parts(folders["enhance"] / "questions"):
        questions |= {one.id: one for one in from_table(pq.read_table(part))}
    rows = sorted(tables.rows(folders["assess"] / "assessed"), key=lambda row: -row["confidence"])
    shown = []
    for tier in "ABC":
        row = next((row for row in rows if row["tier"] == tier and row["steps"] != "[]"), None)
        if row is not None:
            question = questions[row["question"]]
            keys = [item.key for item in question.shown if item.kind == "image"]
            picture = thumbnail(decode_image(MediaStore(store_of(run)).read(keys[0])), 160) if keys else None
            shown.append({"row": row, "question": question, "steps": steps_of(row["steps"]), "picture": picture})
    return shown[:SHOWN]
