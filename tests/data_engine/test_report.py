"""The report's fragments about data: what they say is what the run's tables say."""

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from data_engine import catalog
from data_engine.judge import OPERATORS
from data_engine.report import (
    balance,
    changes,
    contact,
    corpora,
    figures,
    gate,
    html,
    leaks,
    measures,
    mix,
    palette,
    rights,
    strip,
    twins,
)
from data_engine.report.figures import Threshold
from model.visual_tokens import num_tokens


def words(fragment: str) -> str:
    """A fragment as it is read: no tags, white space folded."""
    return " ".join(re.sub(r"<[^>]+>", " ", fragment).split())


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0, "0"), (1234567, "1,234,567"), (0.5, "0.5"), (0.013819, "0.0138"), (2345.6, "2,346")],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert html.number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.123, "0.12 s"), (38.12, "38.1 s"), (125, "2 min 05 s"), (3599.6, "1 h 00 min"), (7380, "2 h 03 min")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert html.duration(seconds) == shown


def test_every_bound_of_every_operator_finds_the_column_it_bounds() -> None:
    for name, operator in OPERATORS.items():
        settings = operator.model_construct().model_dump()  # some need a model's folder
        bounds = sorted(
            field for field, value in settings.items() if value is not None and field.startswith(("min_", "max_"))
        )
        found = [bound for column in operator.looks_at for bound in measures.thresholds(column, settings)]
        assert sorted(bound.value for bound in found) == sorted(settings[field] for field in bounds), name


def test_a_bound_belongs_to_its_own_column_only() -> None:
    settings = {"min_words": 20, "min_mean_word_length": 2.5, "max_mean_word_length": 12.0, "min_letter_share": 0.5}
    assert measures.thresholds("num_words", settings) == [Threshold("min", 20.0)]
    assert measures.thresholds("mean_word_length", settings) == [Threshold("min", 2.5), Threshold("max", 12.0)]
    assert measures.thresholds("han_share", settings) == []


def test_bins_hold_every_value() -> None:
    random = np.random.default_rng(0)
    for values in (
        random.lognormal(0, 3, 500),
        random.integers(0, 20, 500).astype(float),
        np.full(5, 7.0),
        random.normal(size=500),
    ):
        edges, logarithmic = figures.bins(values, whole=bool(np.all(values == np.round(values))))
        assert np.histogram(values, edges)[0].sum() == len(values)
        assert not logarithmic or values.min() > 0


def test_reasons_that_differ_in_a_name_are_counted_together() -> None:
    rows = [{"reason": f"no caption file {name}.txt beside the image", "count": 1} for name in ("a_b", "c-d", "e")]
    rows.append({"reason": "image too small", "count": 2})
    assert corpora.merged(rows) == [("no caption file … beside the image", 3), ("image too small", 2)]


def test_figures_take_the_colours_of_the_page_and_share_no_id() -> None:
    kept, dropped = np.array([1.0, 2.0, 2.0]), np.array([0.0])
    drawn = [
        html.svg(figures.histogram(kept, dropped, [Threshold("min", 1)], name), name) for name in ("first", "second")
    ]
    for svg in drawn:
        ElementTree.fromstring(svg)
        assert "var(--kept)" in svg and "var(--dropped)" in svg
        assert not any(colour in svg for colour in palette.LIGHT.values())
        used = set(re.findall(r'(?:url\(#|href="#)([\w-]+)', svg))
        assert used <= set(re.findall(r' id="([\w-]+)"', svg))
    ids = [set(re.findall(r' id="([\w-]+)"', svg)) for svg in drawn]
    assert ids[0] and not ids[0] & ids[1]


def test_both_themes_name_the_same_colours() -> None:
    assert palette.LIGHT.keys() == palette.DARK.keys()
    assert len(set(palette.LIGHT.values())) == len(palette.LIGHT), "a figure's colour must lead back to one name"


def test_an_empty_folder_has_no_fragments(tmp_path: Path) -> None:
    for part in (
        corpora.table,
        corpora.funnel,
        measures.histograms,
        twins.section,
        leaks.section,
        balance.section,
        changes.section,
        rights.section,
        gate.section,
        mix.section,
        contact.section,
        strip.section,
    ):
        with pytest.raises(html.NotRunError, match="not run yet"):
            part(tmp_path)


def test_the_funnel_says_what_the_catalogue_says(small_run: Path) -> None:
    shown = words(corpora.funnel(small_run))
    for row in catalog.funnel(small_run):
        if row["dropped"]:
            assert f"−{row['dropped']:,}" in shown
    summary = json.loads((small_run / "summary.json").read_text())
    for name, counts in summary["corpora"].items():
        assert f"{name} {counts['ingested']:,} → {counts['kept']:,}" in shown


def test_measures_count_every_sample_once(small_run: Path) -> None:
    for corpus in corpora.corpora(small_run):
        with catalog.open_catalog(small_run) as connection:
            found = catalog.rows(connection, "SELECT status, origin FROM verdicts WHERE corpus = ?", corpus)
        kept = sum(row["status"] == "kept" for row in found)
        for one in measures.measured(small_run, corpus):
            assert len(one.kept) <= kept and len(one.dropped) <= len(found) - kept
            if one.column in {"target_words", "num_words"}:
                assert (len(one.kept), len(one.dropped)) == (kept, len(found) - kept)


def test_no_kept_sample_lies_beyond_a_bound(small_run: Path) -> None:
    judged = 0
    for corpus in corpora.corpora(small_run):
        for one in measures.measured(small_run, corpus):
            for bound in one.thresholds if not one.column.endswith("mean_word_length") else ():
                low = bound.side == "min"
                assert all(value >= bound.value if low else value <= bound.value for value in one.kept), one.column
                judged += len(one.kept)
    assert judged > 100


def test_the_contact_sheet_shows_both_sides_with_their_reasons(small_run: Path) -> None:
    chips = 0
    with catalog.open_catalog(small_run) as connection:
        modality = {row["id"]: row["modality"] for row in catalog.rows(connection, "SELECT id, modality FROM samples")}
    for corpus in corpora.corpora(small_run):
        sides = contact.sheet(small_run, corpus, num=4)
        assert all(card["status"] == "kept" for card in sides["kept"]) and len(sides["kept"]) <= 4
        assert (
            all(card["status"] != "kept" and card["reason"] for card in sides["dropped"]) and len(sides["dropped"]) <= 4
        )
        for card in sides["kept"]:
            assert bool(card["pictures"]) == (modality[card["id"]] != "text")
            assert all(picture["uri"].startswith("data:image/jpeg;base64,") for picture in card["pictures"])
        chips += len(sides["dropped"])
    assert chips > 0


def test_the_strip_costs_what_the_run_counted(small_run: Path) -> None:
    found = strip.strip(small_run, strip.choose(small_run))
    with catalog.open_catalog(small_run) as connection:
        counted = catalog.rows(connection, "SELECT * FROM tokens WHERE id = ?", found.sample.id)[0]
    assert found.plan.tokens == counted["visual_tokens"] == sum(map(num_tokens, found.plan.sizes))
    assert (sum(found.clip.is_slow), len(found.clip.is_slow) - sum(found.clip.is_slow)) == (
        counted["slow_frames"],
        counted["fast_frames"],
    )
    assert len(found.sample.media) == 2 and len(found.cuts) == 1, "a splice shows most"
    cut = found.clip.times.index(found.cuts[0])
    assert found.clip.is_slow[cut], "another film is never near-static"


def test_the_mix_names_the_plans_own_shares(small_run: Path) -> None:
    found = mix.report(small_run)
    with catalog.open_catalog(small_run) as connection:
        rows = catalog.rows(connection, "SELECT modality, sum(tokens) AS tokens FROM plan GROUP BY modality")
    total = sum(row["tokens"] for row in rows)
    for row in rows:
        assert found["achieved"][row["modality"]] == pytest.approx(float(row["tokens"] / total))
    assert found["error"] <= found["bound"]
    assert sum(split["samples"] for split in mix.shards(small_run)) == sum(
        counts["kept"] for counts in json.loads((small_run / "summary.json").read_text())["corpora"].values()
    )


def test_a_failed_gate_is_shown_and_the_mix_says_why_it_is_missing(small_run: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(small_run, tmp_path / "run", symlinks=True))
    folder = catalog.steps(out)["gate"]
    found = json.loads((folder / "gate.json").read_text())
    found["passed"], found["expectations"][0]["success"] = False, False
    found["expectations"][0]["min"] = 10**9
    (folder / "gate.json").write_text(json.dumps(found))
    index = json.loads((out / "run.json").read_text())
    index["steps"] = {name: path for name, path in index["steps"].items() if name not in {"mix", "shards"}}
    (out / "run.json").write_text(json.dumps(index))
    shown = words(gate.section(out))
    assert "failed" in shown and "at least 1e+09" in shown and "✗" in shown
    with pytest.raises(html.NotRunError, match="gate"):
        mix.section(out)
