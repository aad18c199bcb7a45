"""`keyeforge data shard`: the end of a run that is mixed, by the same steps."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from data_engine import catalog, shards
from data_engine.cli import app
from data_engine.curate import shard
from data_engine.recipe import load_recipe
from data_engine.shard_lint import lint
from data_engine.step import UNFINISHED
from tests.data_engine import lifecycle_run


@pytest.fixture(scope="module")
def whole(corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run by the local runner."""
    root = lifecycle_run.make_corpora(corpora, tmp_path_factory.mktemp("corpora"))
    out = tmp_path_factory.mktemp("whole") / "run"
    assert not lifecycle_run.run(root, out).failed
    return out


@pytest.fixture
def mixed(whole: Path, tmp_path: Path) -> Path:
    """The same run as a curate that was stopped before its shards would have left it."""
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    shutil.rmtree(catalog.steps(run)["shards"])
    for name in ("shards", "summary.json"):
        (run / name).unlink()
    index = json.loads((run / "run.json").read_text())
    del index["steps"]["shards"]
    (run / "run.json").unlink()
    (run / UNFINISHED).write_text(json.dumps(index))
    return run


def bytes_of(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "shards").iterdir())}


def run_shard(run: Path, recipe: Path | None = None) -> Any:
    arguments = ["shard", str(recipe or run / "recipe.yaml"), "--out", str(run), "--runner", "local"]
    return CliRunner().invoke(app, arguments)


def test_the_shards_are_those_of_a_whole_run(whole: Path, mixed: Path) -> None:
    result = run_shard(mixed)
    assert result.exit_code == 0, result.output
    assert bytes_of(mixed) == bytes_of(whole) and not lint(mixed / "shards")
    assert catalog.steps(mixed).keys() == catalog.steps(whole).keys()
    summaries = [json.loads((run / "summary.json").read_text()) for run in (mixed, whole)]
    assert summaries[0]["shards"] == summaries[1]["shards"] and summaries[0]["corpora"] == summaries[1]["corpora"]
    step = catalog.steps(mixed)["shards"] / "step.json"
    before = step.stat().st_mtime_ns
    again = run_shard(mixed)
    assert again.exit_code == 0 and "as before" in again.output and step.stat().st_mtime_ns == before


def test_it_goes_on_where_it_was_stopped(whole: Path, mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, packed, count = load_recipe(mixed / "recipe.yaml"), shards.pack, 0

    def stop(*given: Any) -> shards.Packed:
        nonlocal count
        count += 1
        if count > 50:
            raise KeyboardInterrupt
        return packed(*given)

    monkeypatch.setattr(shards, "pack", stop)
    with pytest.raises(KeyboardInterrupt):
        shard(recipe, mixed, runner="local")
    assert not (mixed / "shards").exists()
    finished = {path.name: path.stat().st_mtime_ns for path in (mixed / "steps").glob(".shards-*/shards/*.tar")}
    assert finished
    monkeypatch.undo()
    shard(recipe, mixed, runner="local")
    assert bytes_of(mixed) == bytes_of(whole)
    assert {name: (mixed / "shards" / name).stat().st_mtime_ns for name in finished} == finished


def test_no_mix_is_one_clear_line(whole: Path, tmp_path: Path) -> None:
    result = run_shard(tmp_path / "new", whole / "recipe.yaml")
    assert result.exit_code == 2 and len(result.output.strip().splitlines()) == 1
    assert "its samples are not mixed yet; run `keyeforge data curate` to the end" in result.output


def test_the_mix_of_another_recipe_is_refused(mixed: Path, tmp_path: Path) -> None:
    data = yaml.safe_load((mixed / "recipe.yaml").read_text())
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({**data, "mixture": {"shares": {"image": 0.5, "text": 0.5}}}))
    (tmp_path / "fewer.yaml").write_text(yaml.safe_dump({**data, "corpora": data["corpora"][:2]}))
    for name in ("other.yaml", "fewer.yaml"):
        result = run_shard(mixed, tmp_path / name)
        assert result.exit_code == 2 and "mixed by another recipe" in result.output
