"""`keyeforge data whatif` against the run that a moved threshold really makes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from data_engine import catalog, tables
from data_engine.cli import app
from tests.data_engine import lifecycle_run as life


@pytest.fixture(scope="module")
def root(corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return life.make_corpora(corpora, tmp_path_factory.mktemp("life") / "corpora")


@pytest.fixture(scope="module")
def done(root: Path) -> Path:
    out = root.parent / "run"
    life.run(root, out)
    return out


def ask(run: Path, *settings: str) -> Any:
    options = [option for text in settings for option in ("--set", text)]
    return CliRunner().invoke(app, ["whatif", str(run / "recipe.yaml"), "--data", str(run), *options, "--json"])


def decided(run: Path, corpus: str) -> dict[str, tuple[str, str | None, str | None]]:
    rows = tables.rows(catalog.steps(run)[f"decide.{corpus}"] / "verdicts")
    return {row["id"]: (row["status"], row["operator"], row["reason"]) for row in rows}


def longest(**words: int) -> Any:
    """Edits a recipe: the most words of a corpus's targets."""

    def change(data: dict[str, Any]) -> None:
        for corpus in data["corpora"]:
            for spec in corpus["operators"]:
                if "length" in spec and corpus["corpus"] in words:
                    spec["length"]["max_words"] = words[corpus["corpus"]]

    return change


TIGHTER = {"stamps": 7, "champ": 60}


def test_the_forecast_is_what_the_run_with_that_recipe_decides(root: Path, done: Path) -> None:
    life.run(root, root.parent / "moved", longest(**TIGHTER))
    settings = [f"corpora.{name}.operators.length.max_words={words}" for name, words in TIGHTER.items()]
    expected: dict[tuple[str, str | None, str | None], int] = {}
    for corpus in life.NAMES:
        before, after = decided(done, corpus), decided(root.parent / "moved", corpus)
        for sample_id, (status, operator, reason) in after.items():
            if before[sample_id][0] != status:
                key = (corpus, operator, reason)
                expected[key] = expected.get(key, 0) + 1
    answer = json.loads(ask(done, *settings).output)
    found = {(row["corpus"], row["operator"], row["reason"]): row["count"] for row in answer["changes"]}
    assert found == expected and sum(expected.values()) > 10
    assert {row["change"] for row in answer["changes"]} == {"kept->dropped"}
    for row in answer["changes"]:
        assert all(decided(done, row["corpus"])[sample_id][0] == "kept" for sample_id in row["ids"])


def test_a_looser_threshold_brings_samples_back_and_names_what_had_dropped_them(root: Path, done: Path) -> None:
    strict = root.parent / "strict"
    life.run(root, strict, longest(**TIGHTER))
    answer = json.loads(ask(strict, "operators.length.max_words=600").output)
    assert {row["change"] for row in answer["changes"]} == {"dropped->kept"}
    assert {row["reason"] for row in answer["changes"]} == {"target too long"}
    back = {row["corpus"]: row["kept_after"] - row["kept_before"] for row in answer["corpora"]}
    assert back["champ"] == sum(row["count"] for row in answer["changes"] if row["corpus"] == "champ") > 0


def test_a_setting_for_one_corpus_leaves_the_others_alone(done: Path) -> None:
    answer = json.loads(ask(done, "corpora.stamps.operators.length.max_words=3").output)
    assert [row["corpus"] for row in answer["corpora"]] == ["stamps"]


def test_nothing_is_written(done: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*")}
    assert ask(done, "operators.length.max_words=3").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*")} == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("operators.lenth.max_words=7", "did you mean 'length'?"),
        ("operators.length.max_wrds=7", "did you mean 'max_words'?"),
        ("corpora.stmps.operators.length.max_words=7", "did you mean 'stamps'?"),
        ("operators.repetition.n=2", "changes what repetition measures"),
        ("operators.length.max_words=many", "max_words"),
        ("length=7", "write operators.NAME.FIELD=VALUE"),
    ],
)
def test_a_wrong_setting_gets_one_line_and_exit_2(done: Path, setting: str, message: str) -> None:
    answer = ask(done, setting)
    assert answer.exit_code == 2 and message in answer.output and answer.output.count("\n") == 1


def test_a_recipe_measured_otherwise_is_sent_to_curate(root: Path, done: Path, tmp_path: Path) -> None:
    def finer(data: dict[str, Any]) -> None:
        next(spec for spec in data["corpora"][0]["operators"] if "repetition" in spec)["repetition"]["n"] = 2

    other = life.recipe(root, tmp_path / "recipe.yaml", finer)
    options = ["--data", str(done), "--set", "operators.length.max_words=3"]
    answer = CliRunner().invoke(app, ["whatif", str(other), *options])
    assert answer.exit_code == 2 and "keyeforge data curate" in answer.output


def test_the_answer_says_that_passes_are_not_run_again(root: Path, done: Path) -> None:
    options = ["--data", str(done), "--set", "operators.length.max_words=3"]
    told = CliRunner().invoke(app, ["whatif", str(done / "recipe.yaml"), *options]).output
    assert "are not run again" in " ".join(told.split())
    assert "not run again" in json.loads(ask(done, "operators.length.max_words=3").output)["note"]


SOURCE = {"format": "text", "path": "words", "modality": "text", "task": "text", "licence": "MIT"}
BENCHMARK = {"decontaminate": {"benchmarks": [{**SOURCE, "path": "nowhere"}]}}
WRONG = [
    ({"operatrs": []}, "recipe.yaml: operatrs: unknown key; did you mean 'operators'?"),
    ({"operators": [{"lenth": {}}]}, "recipe.yaml: corpora.words.operators: unknown 'lenth'; did you mean 'length'?"),
    ({"operators": [{"length": {"max_wrds": 1}}]}, "recipe.yaml: corpora.words.operators.length: unknown 'max_wrds'"),
    ({"operators": [{"length": {"max_words": "few"}}]}, "corpora.words.operators.length: max_words: Input should be"),
    ({"dedup": [{"balance": {}}]}, "corpora.words.dedup.balance: give either cap or target"),
    ({"sources": [{**SOURCE, "path": "nowhere"}]}, "corpora.words.sources.0.path"),
    ({"sources": [{**SOURCE, "path": "../out"}]}, "leaves the corpus folder"),
    ({"sources": [{**SOURCE, "path": "empty"}]}, "holds no file"),
    ({"dedup": [BENCHMARK]}, "corpora.words.dedup.decontaminate.benchmarks.0.path"),
    ({"against": ["nowhere"]}, "corpora.words.against.0"),
    ({"gates": [{"measure": "kpt", "min": 1}]}, "recipe.yaml: gates.0.measure: unknown 'kpt'; did you mean 'kept'?"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message[-24:] for _, message in WRONG])
def test_a_wrong_recipe_gets_one_line_and_exit_2_before_anything_is_read(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    for folder in ("words", "empty"):
        (tmp_path / folder).mkdir()
    (tmp_path / "words/a.txt").write_text("some words\n", encoding="utf-8")
    recipe = {"corpus": "words", "sources": [SOURCE], "target": "samples", **change}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    arguments = ["curate", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out"), "--runner", "local"]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 2 and isinstance(answer.exception, SystemExit)
    assert message in answer.output and answer.output.strip().count("\n") == 0


def test_a_file_for_a_folder_and_a_missing_recipe(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments, message in (
        ([str(tmp_path / "none.yaml"), "--out", str(tmp_path / "out")], "none.yaml: cannot be read"),
        ([str(tmp_path), "--out", str(tmp_path / "file")], "is a file; give a folder"),
    ):
        answer = CliRunner().invoke(app, ["curate", *arguments])
        assert answer.exit_code == 2 and message in answer.output and answer.output.strip().count("\n") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "--corpus", "stmps"], "this run has stamps, easy_vqa, champ"),
        (["inspect", "--status", "keptt"], "choose kept, dropped, rerouted or quarantined"),
        (["inspect", "--limit", "-1"], "--limit"),
        (["why", "zzz"], "no sample has this id"),
        (["remove", "--id", "zzz"], "zzz"),
        (["remove"], "give exactly one of"),
        (["gc", "--keep", "nowhere.json"], "not a run file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_questions_get_exit_2_and_no_traceback(done: Path, arguments: list[str], message: str) -> None:
    answer = CliRunner().invoke(app, [*arguments, "--data", str(done)])
    assert answer.exit_code == 2 and isinstance(answer.exception, SystemExit) and message in answer.output


@pytest.mark.parametrize("name", ["curate", "funnel", "inspect", "why", "whatif", "diff", "remove", "gc"])
def test_help_teaches(name: str) -> None:
    told = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
    assert told.exit_code == 0 and (f"keyeforge data {name}" in told.output or name == "funnel")
