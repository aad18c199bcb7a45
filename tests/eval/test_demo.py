"""The demo goes on without what cannot be had, and trains anew only what is stale."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from data_engine.curate import check
from data_engine.recipe import Recipe
from eval import demo


def recipe() -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((demo.REPOSITORY / "data_engine/recipes/demo.yaml").read_text())
    return found


def folders(root: Path, *without: str) -> Path:
    for corpus in Recipe.model_validate(recipe()).corpora:
        for source in corpus.sources:
            if source.path not in without:
                (root / source.path).mkdir(parents=True, exist_ok=True)
    return root


def test_with_everything_there_nothing_changes(tmp_path: Path) -> None:
    found, warnings = demo.available(recipe(), folders(tmp_path))
    assert not warnings and found == {**recipe(), "root": str(tmp_path)}


def test_a_missing_corpus_is_left_out_with_one_warning_and_its_gates(tmp_path: Path) -> None:
    found, warnings = demo.available(recipe(), folders(tmp_path, "stamps"))
    assert warnings == ["corpus stamps: stamps could not be had and is left out"]
    whole = Recipe.model_validate(found)
    check(whole)
    assert "stamps" not in {corpus.corpus for corpus in whole.corpora}
    assert whole.mixture.shares == pytest.approx({"video": 0.24, "image": 0.50, "text": 0.26})


def test_a_lost_modality_gives_its_share_to_the_others(tmp_path: Path) -> None:
    found, _ = demo.available(recipe(), folders(tmp_path, "video", "trailer"))
    shares = Recipe.model_validate(found).mixture.shares
    assert shares == pytest.approx({"image": 0.50 / 0.76, "text": 0.26 / 0.76})


def test_a_stage_is_trained_anew_only_when_what_it_stands_on_is_newer(tmp_path: Path) -> None:
    begun = tmp_path / "train/stage1/stage.json"
    before = tmp_path / "train/warmup/summary.json"
    manifest = tmp_path / "shards/manifest.json"
    for path in (begun, before, manifest):
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    future = begun.stat().st_mtime + 10_000  # later than the recipes of this checkout
    os.utime(begun, (future, future))
    assert demo._staleness("stage1", tmp_path) == [] and not demo.is_done("stage1", tmp_path)
    result = tmp_path / "train/stage1/summary.json"
    result.write_text("{}")
    os.utime(result, (future, future))
    assert demo.is_done("stage1", tmp_path)
    os.utime(before, (future + 1, future + 1))
    assert demo._staleness("stage1", tmp_path) == ["--fresh"] and not demo.is_done("stage1", tmp_path)
    assert demo._staleness("stage2", tmp_path) == [] and demo._staleness("curate", tmp_path) == []


def test_the_evaluation_is_done_when_all_its_tasks_are_and_the_fusion_when_it_is_published(tmp_path: Path) -> None:
    results = [tmp_path / f"eval/{task}/summary.json" for task in ("easy_vqa_test", "minibench")]
    results.append(tmp_path / "fusion/summary.json")
    trained = tmp_path / "train/sft/summary.json"
    for path in (*results, trained):
        path.parent.mkdir(parents=True)
    future = (demo.REPOSITORY / demo.RECIPES["fusion"]).stat().st_mtime + 10_000
    for path in results:
        assert (not demo.is_done("eval", tmp_path) and not demo.is_done("fusion", tmp_path)) or path == results[2]
        path.write_text("{}")
        os.utime(path, (future, future))
    assert demo.is_done("eval", tmp_path) and demo.is_done("fusion", tmp_path)
    trained.write_text("{}")
    os.utime(trained, (future + 1, future + 1))
    assert not demo.is_done("eval", tmp_path) and not demo.is_done("fusion", tmp_path)


@pytest.mark.parametrize("group", ["demo", "data", "model", "train", "eval"])
def test_every_group_explains_itself(group: str) -> None:
    command = [sys.executable, "-m", "keyeforge", group, "--help"]
    done = subprocess.run(command, cwd=demo.REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Usage: keyeforge" in done.stdout and "--help" in done.stdout
