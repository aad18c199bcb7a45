"""A whole run on real corpora: what it keeps, what it sets aside, and that nothing stops it but a gate."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from data_engine import catalog, tables
from data_engine.cli import app
from data_engine.curate import curate
from data_engine.recipe import load_recipe
from tests import small_corpora as small
from tests.data_engine.test_media import huge_png

NAMES = {"stamps", "pages", "scene_text", "written", "easy_vqa", "easy_vqa_words"}
NAMES |= {"film", "titles", "reference", "champ"}


def test_the_summary_adds_up(small_run: Path) -> None:
    summary = json.loads((small_run / "summary.json").read_text())
    assert set(summary["corpora"]) == NAMES and summary["gate"]["passed"]
    for counts in summary["corpora"].values():
        assert counts["ingested"] == counts["kept"] + counts["dropped"] + counts["quarantined"] and counts["kept"] > 0
    mix = json.loads((catalog.steps(small_run)["mix"] / "mix.json").read_text())
    errors = [abs(mix["achieved"][name] - share) for name, share in mix["target"].items()]
    assert max(errors) <= mix["largest_sample"] / mix["tokens"]
    assert summary["mix"] == mix["achieved"]
    assert summary["shards"]["samples"] == sum(counts["kept"] for counts in summary["corpora"].values())


def test_every_step_says_what_it_cost(small_run: Path) -> None:
    for folder in catalog.steps(small_run).values():
        record = json.loads((folder / "step.json").read_text())
        assert record["seconds"] >= 0 and record["cpu_seconds"] >= 0 and record["bytes"] > 0


def test_a_second_run_does_nothing_again(small_run: Path) -> None:
    announced: list[Any] = []
    curate(load_recipe(small_run / "recipe.yaml"), small_run, announce=announced.append)
    assert announced and all(step.reused for step in announced)


def test_a_moved_threshold_measures_nothing_again(small_run: Path, tmp_path: Path) -> None:
    data = yaml.safe_load((small_run / "recipe.yaml").read_text())
    stamps = next(corpus for corpus in data["corpora"] if corpus["corpus"] == "stamps")
    stamps["operators"][1]["blank"]["min_entropy"] = 3.0
    data["corpora"] = [stamps]
    data["mixture"] = {"shares": {"image": 1.0}}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(data))
    shutil.copytree(small_run, tmp_path / "run", symlinks=True)
    announced: dict[str, Any] = {}
    curate(load_recipe(path), tmp_path / "run", announce=lambda step: announced.update({step.name: step}))
    again = {name for name, step in announced.items() if not step.reused}
    assert {"ingest.stamps", "probe.stamps", "measure.stamps"}.isdisjoint(again) and "decide.stamps" in again


def plant(root: Path, half_video: bytes) -> None:
    """Six kinds of bad input, one each."""
    photo = next((root / "scene_text").glob("*.jpg")).read_bytes()
    (root / "scene_text/cut.jpg").write_bytes(photo[: len(photo) // 2])
    (root / "scene_text/empty.png").write_bytes(b"")
    (root / "scene_text/huge.png").write_bytes(huge_png())
    (root / "video/half.avi").write_bytes(half_video)
    bad = [
        {"id": "no-answer", "image": "images/0.png"},
        {"id": "climber", "image": "../../../etc/passwd", "conversations": [
            {"from": "human", "value": "<image>\nwhat?"}, {"from": "gpt", "value": "red"}]},
    ]  # fmt: skip
    with (root / "easy_vqa/train.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in bad)


@pytest.fixture(scope="module")
def planted(small_corpora: Path, corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planted") / "corpora"
    shutil.copytree(small_corpora, root)
    whole = (corpora / "video/vtest.avi").read_bytes()
    plant(root, whole[: len(whole) // 2])
    return root


@pytest.fixture(scope="module")
def planted_run(planted: Path, spark: Any, ray: Any) -> Path:
    out = planted.parent / "run"
    recipe = small.recipe(planted, planted.parent / "recipe.yaml")
    result = CliRunner().invoke(app, ["curate", str(recipe), "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("cut.jpg", "does not decode"),
        ("empty.png", "empty file"),
        ("huge.png", "pixels"),
        ("half.avi", "ends at"),
        ("no-answer", "conversations"),
        ("climber", "leaves the corpus folder"),
    ],
)
def test_bad_input_is_set_aside_with_its_reason(planted_run: Path, where: str, reason: str) -> None:
    number = {"no-answer": ":241", "climber": ":242"}.get(where, where)
    with catalog.open_catalog(planted_run) as connection:
        read = catalog.rows(connection, "SELECT locator AS place, field || ' ' || reason AS why FROM quarantine")
        probed = catalog.rows(
            connection, "SELECT origin AS place, reason AS why FROM verdicts WHERE status = 'quarantined'"
        )
    found = [row["why"] for row in read + probed if number in row["place"]]
    assert len(found) == 1 and reason in found[0], (found, read, probed)


def test_the_rest_is_curated_as_if_nothing_were_wrong(planted_run: Path, small_run: Path) -> None:
    planted, clean = (json.loads((run / "summary.json").read_text())["corpora"] for run in (planted_run, small_run))
    assert {name: counts["kept"] for name, counts in planted.items()} == {
        name: counts["kept"] for name, counts in clean.items()
    }
    assert sum(counts["quarantined"] for counts in planted.values()) == 6 + sum(
        counts["quarantined"] for counts in clean.values()
    )


def test_a_lower_gate_fails_the_same_run_and_says_which(planted: Path, planted_run: Path) -> None:
    recipe = planted.parent / "strict.yaml"
    data = yaml.safe_load((planted.parent / "recipe.yaml").read_text())
    data["gates"] = [{"measure": "kept", "min": 1}, {"measure": "quarantined_share", "max": 0.05}]
    recipe.write_text(yaml.safe_dump(data))
    result = CliRunner().invoke(app, ["curate", str(recipe), "--out", str(planted_run)])
    assert result.exit_code == 1
    assert "quarantined_share should be at most 0.05: scene_text = " in result.output


def test_unknown_key_exits_2_in_one_line(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("corpora: []\nmixtrue: {}\n")
    result = CliRunner().invoke(app, ["curate", str(recipe), "--out", str(tmp_path / "run")])
    assert result.exit_code == 2 and "did you mean 'mixture'?" in result.output and "Traceback" not in result.output


def test_spark_submit_runs_the_same_code(small_corpora: Path, small_run: Path, tmp_path: Path) -> None:
    data = yaml.safe_load((small_run / "recipe.yaml").read_text())
    data["corpora"] = [corpus for corpus in data["corpora"] if corpus["corpus"] == "champ"]
    data["mixture"] = {"shares": {"text": 1.0}}
    recipe = tmp_path / "champ.yaml"
    recipe.write_text(yaml.safe_dump(data))
    job = Path(__file__).parents[2] / "data_engine" / "jobs" / "curate.py"
    submit = Path(sys.executable).parent / "spark-submit"
    command = [submit, "--master", "local[2]", job, recipe, "--out", tmp_path / "out", "--runner", "spark"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    mine, theirs = (catalog.steps(run)["dedup.champ"] / "samples" for run in (tmp_path / "out", small_run))
    assert tables.read(mine).equals(tables.read(theirs))
