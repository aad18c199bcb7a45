"""The instruction job from rows to release, with planted truth: the same bytes on Spark, and nothing twice later on."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from data_engine import catalog, tables
from data_engine.cli import app
from data_engine.curate import curate
from data_engine.recipe import load_recipe
from tests.data_engine import sft_corpus

PLANTED = ("exact", "near", "leak", "refused", "easy", "broken")


@pytest.fixture(scope="module")
def problems(corpora: Any) -> list[tuple[str, str]]:
    return sft_corpus.problems(corpora)


@pytest.fixture(scope="module")
def done(problems: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sft")
    outcome = curate(load_recipe(sft_corpus.write(root, problems, "sft")), root / "run", runner="local")
    assert not outcome.failed
    return root


def became(run: Path) -> dict[str, str]:
    with catalog.open_catalog(run) as connection:
        found = catalog.rows(
            connection,
            """SELECT s.attribution AS kind, coalesce(v.operator, v.status) AS operator FROM samples AS s
               JOIN verdicts AS v ON v.id = s.id AND v.origin = s.origin WHERE s.attribution <> ''""",
        )
    return {item["kind"]: item["operator"] for item in found}


def test_every_planted_row_goes_for_its_own_reason(done: Path) -> None:
    assert became(done / "run") == {
        "exact": "dedup.exact",
        "near": "dedup.minhash",
        "leak": "dedup.decontaminate",
        "refused": "rights",
        "easy": "difficulty",
    }
    with catalog.open_catalog(done / "run") as connection:
        refused = catalog.rows(connection, "SELECT locator, reason FROM quarantine")
    assert [item["locator"] for item in refused] == ["r.jsonl:56"]


def test_the_release_is_balanced_and_says_what_it_holds(done: Path) -> None:
    manifest = json.loads((done / "run/release/manifest.json").read_text())
    kept = tables.read(done / "run/release/sft")
    assert manifest["sft"]["samples"] == len(kept) == 42  # three types of at most 14
    counts = {item["values"]: item["counts"] for item in kept["task"].value_counts().to_pylist()}
    assert counts == {"math/0": 14, "math/1": 14, "math/2": 14}
    recall = json.loads((catalog.steps(done / "run")["decontaminate.sft"] / "recall.json").read_text())
    assert recall["words: as they are"]["recall"] == 1.0


def test_the_funnel_of_passes_adds_up(done: Path) -> None:
    rows = catalog.funnel(done / "run")
    assert rows[0]["seen"] == 56 and rows[-1]["seen"] - rows[-1]["dropped"] == 42
    assert [item["operator"] for item in rows if item["dropped"]] == [
        "read", "rights", "difficulty", "dedup.exact", "dedup.minhash", "dedup.decontaminate", "dedup.balance",
    ]  # fmt: skip


@pytest.mark.usefixtures("spark")
def test_spark_leaves_the_same_bytes(done: Path) -> None:
    assert not curate(load_recipe(done / "sft.yaml"), done / "on_spark", runner="spark").failed
    first, second = (
        {
            file.name: file.read_bytes()
            for file in sorted((catalog.steps(done / run)["dedup.sft"] / "samples").iterdir())
        }
        for run in ("run", "on_spark")
    )
    assert first == second


def test_a_later_release_holds_nothing_of_an_earlier_one(done: Path, problems: list[tuple[str, str]]) -> None:
    data = yaml.safe_load((done / "sft.yaml").read_text())
    shutil.copytree(done / "rows", done / "more")
    new = sft_corpus.row(
        "Which of these words was never asked about before, and why would that be so?", "None of them was, I think."
    )
    with (done / "more/r.jsonl").open("a", encoding="utf-8") as file:
        file.write(new + "\n")
    data["sources"][0]["path"] = "more"
    data["against"] = ["run"]
    data["dedup"] = data["dedup"][:2]
    (done / "later.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    assert not curate(load_recipe(done / "later.yaml"), done / "later", runner="local").failed
    earlier, later = (set(tables.read(done / run / "release/sft")["id"].to_pylist()) for run in ("run", "later"))
    assert not earlier & later and len(later) == 1 + 60 - 10 - 42 + 1  # what balance left out, the leak, the new row


def test_an_earlier_release_is_met_by_the_signatures_it_left(done: Path) -> None:
    data = yaml.safe_load((done / "sft.yaml").read_text())
    data["against"], data["dedup"] = ["signed"], [{"minhash": {"threshold": 0.8}}]
    (done / "against.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    shutil.copytree(done / "run", done / "signed", symlinks=True)
    dropped = []
    for wipe in (False, True):
        for file in tables.parts(catalog.steps(done / "signed")["minhash.sft"] / "signatures") if wipe else ():
            found = pq.read_table(file)
            tables.write(pa.table({name: pa.array([0] * len(found), pa.uint64()) for name in found.column_names}), file)
        assert not curate(load_recipe(done / "against.yaml"), done / f"against-{wipe}", runner="local").failed
        dropped.append(tables.count(catalog.steps(done / f"against-{wipe}")["minhash.sft"] / "drops"))
    assert dropped[0] > 40 and dropped[1] < 5


def test_what_was_removed_does_not_come_back(done: Path) -> None:
    shutil.copytree(done / "run", done / "again", symlinks=True)
    gone = tables.read(done / "again/release/sft")["id"][0].as_py()
    assert CliRunner().invoke(app, ["remove", "--data", str(done / "again"), "--id", gone]).exit_code == 0
    assert not curate(load_recipe(done / "sft.yaml"), done / "again", runner="local").failed
    assert gone not in tables.read(done / "again/release/sft")["id"].to_pylist()
