"""What a run decides with: `whatif` and `why` say what the run itself does, and no model is needed to decide again."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_engine import catalog, tables
from data_engine.curate import check, curate
from data_engine.judge import settled
from data_engine.operators.image_text import ImageTextScore
from data_engine.recipe import load_recipe
from data_engine.whatif import parse, whatif
from strict_yaml import RecipeError

WORDS = ("cat", "dog", "house", "river", "car", "boat")


def questions(path: Path) -> None:
    """Sixty questions of three forms; every fifth may not be used, and every seventh answer is one word."""
    path.mkdir()
    lines = []
    for i in range(60):
        asked = ("What is this {} {}?", "How many of {} {} are there?", "Why is the {} {} here?")[i % 3]
        answer = "Yes." if i % 7 == 0 else "There are some things to say about it, " + "and more " * (i % 11)
        turns = [{"from": "human", "value": asked.format(WORDS[i % 6], i)}, {"from": "gpt", "value": answer}]
        lines.append(json.dumps({"conversations": turns, "licence": "CC-BY-NC-4.0" if i % 5 == 0 else "MIT"}))
    for part in range(6):
        (path / f"{part}.jsonl").write_text("\n".join(lines[part::6]), encoding="utf-8")


def recipe(root: Path, scorer: Path, name: str, percentile: float, min_words: int, unwanted: list[str]) -> Path:
    pictures = {"format": "captions", "path": "shapes", "modality": "image", "task": "caption", "licence": "MIT"}
    rows = {"format": "conversations", "path": "rows", "modality": "text", "task": "sft", "licence": "MIT"}
    score = {"model": str(scorer), "trusted": True, "min_percentile": percentile}
    found = {
        "root": str(root),
        "rights": {"refused": ["CC-BY-NC*"]},
        "corpora": [
            {"corpus": "shapes", "sources": [pictures], "operators": [{"image_text_score": score}]},
            {
                "corpus": "sft",
                "sources": [rows],
                "operators": [{"length": {"min_words": min_words}}, {"task_type": {"unwanted": unwanted}}],
            },
        ],
        "target": "samples",
    }
    path = root / f"{name}.yaml"
    path.write_text(yaml.safe_dump(found), encoding="utf-8")
    return path


SETTINGS = (
    "operators.image_text_score.min_percentile=60",
    "operators.length.min_words=12",
    "operators.task_type.unwanted=[sft/why]",
)


@pytest.fixture(scope="module")
def runs(coloured_shapes: Path, random_towers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, `before` and `after` the settings, by a scorer that is gone when they are done."""
    root = tmp_path_factory.mktemp("deciding")
    shutil.copytree(coloured_shapes, root / "shapes")
    shutil.copytree(random_towers, root / "scorer")
    questions(root / "rows")
    recipe(root, root / "scorer", "before", 10, 2, [])
    recipe(root, root / "scorer", "after", 60, 12, ["sft/why"])
    for name in ("before", "after"):
        curate(load_recipe(root / f"{name}.yaml"), root / name, runner="local")
    shutil.rmtree(root / "scorer")
    return root


def decided(run: Path, corpus: str) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in tables.rows(catalog.steps(run)[f"decide.{corpus}"] / "verdicts")}


def test_the_forecast_is_what_the_changed_recipe_decides(runs: Path) -> None:
    totals, changes = whatif(load_recipe(runs / "before.yaml"), runs / "before", [parse(text) for text in SETTINGS])
    kept: dict[str, tuple[int, int]] = {}
    expected: Counter[tuple[str, str, str]] = Counter()
    for corpus in ("shapes", "sft"):
        before, after = decided(runs / "before", corpus), decided(runs / "after", corpus)
        kept[corpus] = tuple(sum(row["status"] == "kept" for row in side.values()) for side in (before, after))  # type: ignore[assignment]
        for name, row in after.items():
            if before[name]["status"] == "kept" != row["status"]:
                expected[corpus, row["operator"], row["reason"]] += 1
    assert {row["corpus"]: (row["kept_before"], row["kept_after"]) for row in totals} == kept
    assert {(c.corpus, c.operator, c.reason): c.count for c in changes} == expected
    assert {operator for _, operator, _ in expected} == {"image_text_score", "length", "task_type"}
    assert {row["operator"] for row in decided(runs / "before", "sft").values()} >= {"rights", "length"}
    assert len(tables.parts(catalog.steps(runs / "before")["decide.shapes"] / "verdicts")) > 1


def test_a_samples_story_ends_as_the_run_did(runs: Path) -> None:
    for corpus in ("shapes", "sft"):
        told: set[str | None] = set()
        for name, row in decided(runs / "before", corpus).items():
            if row["operator"] not in told:
                told.add(row["operator"])
                drops = [say for say in catalog.why(runs / "before", name)["lineage"] if say["verdict"] == "drop"]
                assert [(say["operator"], say["reason"]) for say in drops] == (
                    [(row["operator"], row["reason"])] if row["operator"] else []
                )
        assert len(told) > 1


def test_a_run_that_has_moved_is_still_its_own(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "before", tmp_path / "moved")
    totals, _ = whatif(load_recipe(runs / "before.yaml"), tmp_path / "moved", [parse("operators.length.min_words=9")])
    assert [row["corpus"] for row in totals] == ["sft"]


def test_a_percentile_is_of_the_whole_corpus(tmp_path: Path) -> None:
    import pyarrow as pa

    for part in range(2):
        scores = pa.table({"image_text_score": [part + i / 10 for i in range(10)]})
        tables.write(scores, tmp_path / f"part-{part:05d}.parquet")
    (_, operator), *_ = settled([("s", ImageTextScore(model="nowhere", min_percentile=50))], tmp_path)
    kept = [operator.decide(tables.read(tmp_path).slice(10 * part, 10)).null_count for part in range(2)]
    assert kept == [0, 10]


def test_measuring_needs_the_model_and_says_so(runs: Path) -> None:
    with pytest.raises(RecipeError, match=r"corpora.shapes.operators.image_text_score: .*no checkpoint"):
        check(load_recipe(runs / "before.yaml"))


@pytest.mark.parametrize(
    ("operators", "dedup", "message"),
    [
        ([{"repetition": {"n": 2}}, {"repetition": {"n": 9}}], [], r"operators.repetition: given twice"),
        ([{"length": {}}], [{"balance": {"cap": 3}}], r"dedup.balance: .*task_type"),
        ([{"task_type": {}}], [{"balance": {"cap": 3, "weights": {"x": 0}}}], r"dedup.balance: .*weights.x"),
        ([{"repetition": {"n": 2}}, {"repetition": {"n": 2, "max_duplicate_ngram_share": 0.1}}], [], None),
    ],
)
def test_a_recipe_that_cannot_run_gets_one_line(runs: Path, operators: Any, dedup: Any, message: str | None) -> None:
    recipe = load_recipe(runs / "before.yaml")
    corpus = recipe.corpora[1].model_copy(update={"operators": operators, "dedup": dedup})
    one = recipe.model_copy(update={"corpora": [corpus]})
    if message is None:
        return check(one)
    with pytest.raises(RecipeError, match=message) as refused:
        check(one)
    assert "\n" not in str(refused.value)
    return None
