"""Questions about a run, answered from its tables and by the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_engine import catalog
from data_engine.cli import app


def ids(run: Path, status: str) -> list[str]:
    with catalog.open_catalog(run) as connection:
        found = catalog.rows(connection, "SELECT id FROM verdicts WHERE status = ? ORDER BY id", status)
    return [row["id"] for row in found]


def test_why_follows_a_kept_sample_to_its_shard(small_run: Path) -> None:
    about = catalog.why(small_run, ids(small_run, "kept")[0])
    assert about["verdicts"][0]["status"] == "kept" and about["tokens"] and about["index"]
    assert [row["verdict"] for row in about["lineage"]] == ["keep"] * len(about["lineage"])


def test_why_says_which_operator_dropped_a_sample_and_what_it_saw(small_run: Path) -> None:
    for sample_id in ids(small_run, "dropped"):
        about = catalog.why(small_run, sample_id)
        dropped = [row for row in about["lineage"] if row["verdict"] == "drop"]
        assert dropped[0]["reason"] == about["verdicts"][0]["reason"] and not about["index"]


def test_the_funnel_adds_up(small_run: Path) -> None:
    summary = json.loads((small_run / "summary.json").read_text())["corpora"]
    rows = catalog.funnel(small_run)
    for corpus, counts in summary.items():
        mine = [row for row in rows if row["corpus"] == corpus]
        assert mine[0]["seen"] == counts["ingested"]
        assert mine[-1]["seen"] - mine[-1]["dropped"] == counts["kept"]
        for before, after in zip(mine, mine[1:], strict=False):
            assert before["seen"] - before["dropped"] == after["seen"]
    gone = sum(row["count"] for row in catalog.reasons(small_run))
    assert gone == sum(counts["dropped"] + counts["quarantined"] for counts in summary.values())


def test_an_ocr_label_knows_its_unlabelled_parent(small_run: Path) -> None:
    with catalog.open_catalog(small_run) as connection:
        found = catalog.rows(connection, "SELECT id, parents FROM samples WHERE step = 'ocr.scene_text'")
    child = next(row for row in found if row["parents"])
    assert catalog.why(small_run, child["parents"][0])["children"] == [{"id": child["id"]}]


def test_the_commands_answer(small_run: Path) -> None:
    run = CliRunner()
    why = run.invoke(app, ["why", ids(small_run, "kept")[0][:10], "--data", str(small_run)])
    assert why.exit_code == 0 and "What each operator saw" in why.output and "Shard" in why.output
    funnel = run.invoke(app, ["funnel", "--data", str(small_run)])
    assert funnel.exit_code == 0 and "ocr_agreement" in funnel.output
    listed = run.invoke(app, ["inspect", "--data", str(small_run), "--corpus", "champ", "--json", "--limit", "3"])
    assert [json.loads(line)["corpus"] for line in listed.output.splitlines()] == ["champ"] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["why", "zzz"], "no sample has this id"), (["why", ""], "samples begin so"), (["funnel"], "no run here")],
)
def test_wrong_questions_get_one_line_and_exit_2(
    small_run: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    data = tmp_path if arguments == ["funnel"] else small_run
    result = CliRunner().invoke(app, [*arguments, "--data", str(data)])
    assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output
