"""One page that tells a whole run: every number in it is read from that run's files."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from cot_factory.report import section as longcot
from data_engine.media import write_atomic
from data_engine.report import (
    balance,
    changes,
    contact,
    corpora,
    gate,
    leaks,
    made,
    measures,
    mix,
    palette,
    rights,
    strip,
    twins,
)
from data_engine.report.html import NotRunError, templates
from eval.report import answers, fusion, headline, minibench, times, training

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: its anchor, its title in full and in the table of contents, and who writes it."""

    anchor: str
    title: str
    short: str
    body: Callable[[Path], Markup]


SECTIONS = (
    Section("corpora", "Corpora", "Corpora", corpora.table),
    Section("funnel", "What became of every record", "Funnel", corpora.funnel),
    Section("made", "What was made", "Made", made.section),
    Section("measures", "Measures and their bounds", "Measures", measures.histograms),
    Section("twins", "Duplicates", "Duplicates", twins.section),
    Section("leaks", "Decontamination", "Decontamination", leaks.section),
    Section("balance", "Balance by task type", "Balance", balance.section),
    Section("changes", "What changed since the last release", "Changes", changes.section),
    Section("rights", "Rights", "Rights", rights.section),
    Section("gate", "The gate", "Gate", gate.section),
    Section("mix", "The mix, the epoch and the shards", "Mix", mix.section),
    Section("longcot", "Chains of thought", "LongCoT", longcot.section),
    Section("contact", "Contact sheet: kept and dropped", "Contact sheet", contact.section),
    Section("strip", "A clip as the model sees it", "Slow and fast", strip.section),
    Section("training", "Training", "Training", training.section),
    Section("evaluation", "Evaluation", "Evaluation", answers.section),
    Section("minibench", "Mini-benchmark", "Mini-benchmark", minibench.section),
    Section("fusion", "Fusion", "Fusion", fusion.section),
    Section("time", "Where the time went", "Time", times.section),
)


def write(out: Path) -> Path:
    """Writes `out`/report/index.html from the files of the run in `out`. Returns its path.

    A part whose files are missing says so in one line. Raises FileNotFoundError if there is no such folder.
    """
    if not out.is_dir():
        raise FileNotFoundError(f"{out}: no such folder; give the folder of a run")
    page = templates(HERE).get_template("page.html.jinja")
    html = page.render(
        colours=Markup(palette.css()),
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "script.js").read_text(encoding="utf-8")),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=headline.machine(),
        cards=headline.cards(out),
        facts=headline.facts(out),
        sections=[_rendered(section, out) for section in SECTIONS],
    )
    target = out / "report" / "index.html"
    write_atomic(target, html.encode())
    return target


def _rendered(section: Section, out: Path) -> dict[str, Any]:
    try:
        body, there = section.body(out), True
    except NotRunError as missing:
        body, there = Markup("<p class='note'>{}.</p>").format(str(missing)[:1].upper() + str(missing)[1:]), False
    return {"anchor": section.anchor, "title": section.title, "short": section.short, "body": body, "there": there}
