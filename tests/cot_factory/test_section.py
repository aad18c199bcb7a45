"""The report's part on chains of thought, and the command that makes them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cot_factory import cli
from cot_factory.report.section import section
from cot_factory.run import factor
from data_engine.report.html import NotRunError
from tests.cot_factory.adding_server import AddingServer
from tests.cot_factory.runs import recipe


@pytest.fixture
def adder() -> Iterator[AddingServer]:
    server = AddingServer()
    yield server
    server.close()


def test_every_number_of_the_section_is_the_runs(adder: AddingServer, tmp_path: Path) -> None:
    summary = factor(recipe(tmp_path, adder.url, 40), tmp_path / "cot")
    html = str(section(tmp_path))
    steps = summary["steps"]
    for number in ("40 questions", "160 chains of thought", f"{steps['review']['waiting']} waiting for people"):
        assert number in " ".join(html.split())
    for tier in "ABC":
        assert re.search(rf'>{tier}</span>.*?class="n">{steps["assess"][tier]}<', html, re.DOTALL)
    gain = summary["calibration"]["gain"]
    assert f"{100 * gain['by_confidence']:.1f} %" in html
    assert html.count("<svg") == 2
    assert html.count("<img") >= 1
    assert "What is" in html


def test_a_run_that_is_not_there_says_which_command_makes_it(tmp_path: Path) -> None:
    with pytest.raises(NotRunError, match="keyeforge cot run"):
        section(tmp_path)


def test_chains_that_are_all_wrong_are_no_fault(adder: AddingServer, tmp_path: Path) -> None:
    spec = recipe(tmp_path, adder.url, 4)
    path = tmp_path / "sums/sums.jsonl"
    lines = [json.loads(line) | {"answer": "1"} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = factor(spec, tmp_path / "cot")
    assert summary["steps"]["release"]["samples_kept"] == 0
    assert summary["calibration"] == {"chains": 16, "right": 0}
    assert "0 released at once" in " ".join(str(section(tmp_path)).split())


def test_the_command_prints_tables_and_refuses_what_is_wrong(adder: AddingServer, tmp_path: Path) -> None:
    recipe(tmp_path, adder.url, 6)
    path, out = str(tmp_path / "recipe.yaml"), str(tmp_path / "out")

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli.app, ["run", *arguments])
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())

    assert "Tiers of the chains" in run(path, "--out", out)
    assert "as before" in run(path, "--out", out)
    assert "choose local or ray" in run(path, "--out", out, "--runner", "spark", code=2)
    assert "is a file" in run(path, "--out", path, code=2)
    assert "cannot be read" in run(str(tmp_path / "none.yaml"), "--out", out, code=2)
    adder.close()
    assert "is up, and run again" in run(path, "--out", str(tmp_path / "other"), code=2)
