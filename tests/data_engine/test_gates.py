"""The gate judges metrics by Great Expectations; what stops, sets aside or only warns is the recipe's choice."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine import catalog, gates, tables
from data_engine.recipe import Gate
from data_engine.report import gate as page
from strict_yaml import RecipeError
from tests.data_engine import lifecycle_run as life

TABLE = pd.DataFrame(
    [{"corpus": "a", "kept": 90, "duplicate_share": 0.01}, {"corpus": "b", "kept": 5, "duplicate_share": 0.4}]
)


def judged(folder: Path, *rules: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    gates.validate(TABLE, [Gate(**rule) for rule in rules], folder)
    return gates.summary(folder), gates.failed(folder)


def test_every_corpus_must_hold(tmp_path: Path) -> None:
    report, failed = judged(tmp_path, {"measure": "kept", "min": 10})
    assert not report["passed"] and failed == ["gate: kept should be at least 10: b = 5"]
    assert report["expectations"][0]["observed"] == {"a": 90.0, "b": 5.0}


BOUND = st.none() | st.sampled_from([0.0, 0.005, 0.01, 0.4, 5.0, 6.0, 90.0])


@settings(max_examples=20)
@given(st.lists(st.tuples(st.sampled_from(["kept", "duplicate_share"]), BOUND, BOUND), min_size=1, max_size=6))
def test_any_suite_says_what_plain_comparison_says(
    tmp_path_factory: pytest.TempPathFactory, rules: list[tuple[str, float | None, float | None]]
) -> None:
    rules = [(name, *sorted(bounds)) if None not in bounds else (name, *bounds) for name, *bounds in rules]  # type: ignore[type-var,misc]
    rules = [rule for rule in rules if rule[1:] != (None, None)]
    report, _ = judged(tmp_path_factory.mktemp("g"), *({"measure": m, "min": a, "max": b} for m, a, b in rules))
    for (measure, low, high), result in zip(rules, report["expectations"], strict=True):
        outside = [
            row["corpus"]
            for row in TABLE.to_dict("records")
            if (low is not None and row[measure] < low) or (high is not None and row[measure] > high)
        ]
        assert result["outside"] == outside and result["success"] is (not outside)


def test_a_gate_on_one_corpus_leaves_the_others_alone(tmp_path: Path) -> None:
    assert judged(tmp_path, {"measure": "duplicate_share", "max": 0.1, "corpus": "a"})[0]["passed"]


def test_a_warning_does_not_stop(tmp_path: Path) -> None:
    report, failed = judged(tmp_path, {"measure": "kept", "min": 10, "action": "warn"})
    assert report["passed"] and not failed and not report["expectations"][0]["success"]
    assert gates.notes(tmp_path) == ["gate: kept should be at least 10: b = 5"]


def test_a_quarantined_corpus_is_set_aside_and_the_run_goes_on(tmp_path: Path) -> None:
    report, failed = judged(tmp_path, {"measure": "kept", "min": 10, "action": "quarantine"})
    assert report["passed"] and not failed
    assert gates.set_aside(tmp_path) == {"b": ["gate: kept should be at least 10: b = 5"]}


def test_with_every_corpus_set_aside_nothing_is_left(tmp_path: Path) -> None:
    report, failed = judged(tmp_path, {"measure": "kept", "min": 1000, "action": "quarantine"})
    assert not report["passed"] and failed == ["gate: every corpus is set aside; nothing is left to mix"]


def test_a_measure_that_no_corpus_has_fails_but_drift_may_have_nothing_before_it(tmp_path: Path) -> None:
    report, failed = judged(
        tmp_path, {"measure": "measures.motion.mean", "min": 1}, {"measure": "drift_kept", "min": -0.5}
    )
    assert [row["success"] for row in report["expectations"]] == [False, True]
    assert failed == ["gate: measures.motion.mean should be at least 1: no corpus has it"]


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        ("kept_shar", "did you mean 'kept_share'?"),
        ("drift_tokns", "did you mean 'tokens'?"),
        ("measures.target_wrds.mean", "did you mean 'target_words'?"),
        ("measures.target_words.men", "did you mean 'mean'?"),
        ("measures.target_words", "write measures.COLUMN.STATISTIC"),
        ("drift_measures.target_words.psi", "psi is a drift itself"),
    ],
)
def test_an_unknown_metric_is_refused_before_the_run(measure: str, message: str) -> None:
    with pytest.raises(RecipeError, match=r"gates\.0\.measure") as caught:
        gates.check([Gate(measure=measure, max=1)], ["a"])
    assert message in str(caught.value)


GATES = [
    {"measure": "kept", "min": 1},
    {"measure": "measures.target_words.mean", "max": 40, "action": "quarantine"},
    {"measure": "share_zh", "corpus": "stamps", "min": 0.99, "action": "warn"},
]


@pytest.fixture(scope="module")
def root(corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return life.make_corpora(corpora, tmp_path_factory.mktemp("gate") / "corpora")


@pytest.fixture(scope="module")
def gated(root: Path) -> Path:
    """A run whose long-winded corpus, champ, a gate sets aside."""

    def change(data: dict[str, Any]) -> None:
        data["gates"] = GATES
        data["mixture"] = {"shares": {"image": 1.0}}

    assert not life.run(root, root.parent / "gated", change).failed
    return root.parent / "gated"


def test_the_metrics_are_kept_and_are_those_of_the_tables(gated: Path) -> None:
    steps = catalog.steps(gated)
    rows = {row["corpus"]: row for row in json.loads((steps["gate"] / "metrics.json").read_text())}
    for corpus in life.NAMES:
        words = tables.read(steps[f"dedup.{corpus}"] / "measures")["target_words"].to_pylist()
        assert rows[corpus]["measures.target_words.mean"] == pytest.approx(sum(words) / len(words))
        assert rows[corpus]["measures.target_words.max"] == max(words)
    assert pq.read_table(steps["gate"] / "metrics.parquet")["corpus"].to_pylist() == list(rows)


def test_a_set_aside_corpus_is_in_no_shard_but_keeps_its_samples(gated: Path) -> None:
    steps = catalog.steps(gated)
    assert list(gates.set_aside(steps["gate"])) == ["champ"]
    with catalog.open_catalog(gated) as connection:
        shown = {row["corpus"] for row in catalog.rows(connection, "SELECT DISTINCT corpus FROM index")}
    assert shown == {"stamps", "easy_vqa"} and tables.count(steps["dedup.champ"] / "samples") > 0
    assert "set aside" in page.section(gated) and "champ" in page.section(gated)


def test_the_report_links_the_pages_of_great_expectations(gated: Path) -> None:
    link = page.data_docs(gated)
    assert link is not None and (gated / "report" / "x").parent.joinpath(link).resolve().is_file()
    assert f'href="{link}"' in page.section(gated)
    pages = (gated / "report" / link).resolve().parent
    assert {path.stem for path in (pages / "expectations").glob("*.html")} == set(life.NAMES)


def test_drift_and_stability_are_against_the_last_release(root: Path, gated: Path) -> None:
    """Half of champ's problems are taken away and the longest are left: counts and lengths both shift."""
    lines = (root / "champ/champ.jsonl").read_text(encoding="utf-8").splitlines()
    other = root.parent / "later"
    life.shutil.copytree(root, other)
    longest = sorted(lines, key=len)[len(lines) // 2 :]
    (other / "champ/champ.jsonl").write_text("\n".join(longest) + "\n", encoding="utf-8")

    def change(data: dict[str, Any]) -> None:
        for corpus in data["corpora"]:
            corpus["against"], corpus["dedup"] = [str(gated)], []
        data["gates"] = [
            {"measure": "drift_kept", "min": -0.2, "action": "stop"},
            {"measure": "measures.target_words.psi", "max": 0.25, "action": "warn"},
        ]

    outcome = life.run(other, root.parent / "drifted", change)
    assert outcome.failed == ["gate: drift_kept should be at least -0.2: champ = -0.5"]
    found = outcome.summary["gate"]["expectations"][1]
    assert found["outside"] == ["champ"] and found["observed"]["stamps"] == found["observed"]["easy_vqa"] == 0
