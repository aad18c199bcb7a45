"""The mini-benchmark put to an untrained model: its summary is what its predictions say, and the page shows it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from data_engine.clips import Clip
from data_engine.media import decode_image
from data_engine.report.html import NotRunError
from eval.minibench.items import KINDS, Item, chance, items
from eval.report import minibench as page
from eval.runner import Answerer
from eval.tasks.instance import Instance, answer_of, is_correct
from eval.tasks.minibench import judge
from model.modeling import build
from model.processing import KeyeProcessor
from model.tokenizer import train_bpe
from model.visual_tokens import visual_budget


@pytest.fixture(scope="module")
def few() -> list[Item]:
    return items(0, 3)


@pytest.fixture(scope="module")
def run(few: list[Item], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with the mini-benchmark's results of a model that knows nothing."""
    root = tmp_path_factory.mktemp("run")
    tokenizer = train_bpe(sorted({item.question for item in few}) * 3, 400, root / "tokenizer")
    torch.manual_seed(5)
    model = build("tiny", tokenizer).eval()
    answerer = Answerer(model, KeyeProcessor(tokenizer, visual_budget("tiny")), "w", batch_size=16)
    seen: set[tuple[str, int]] = set()
    judge(answerer, few, root / "eval/minibench", lambda name, done, total: seen.add((name, total)))
    assert seen == {("mini-benchmark", 18), ("mini-benchmark, blank", 18)}
    return root


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "eval/minibench/predictions.jsonl").read_text().splitlines()]


def summary(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "eval/minibench/summary.json").read_text())
    return found


def test_the_summary_is_what_the_predictions_say(run: Path, few: list[Item]) -> None:
    found = summary(run)
    assert [row["id"] for row in rows(run)] == [item.id for item in few]
    for row, item in zip(rows(run), few, strict=True):
        said = [" ".join(row[key].casefold().split()).rstrip(".").strip() for key in ("said", "said_blank")]
        assert [row["correct"], row["correct_blank"]] == [words == item.answer for words in said]
        assert row["parsed"] == (said[0] in item.choices if item.choices else said[0] != "")
    assert found["num_samples"] == 18 and found["unparsed"] == sum(not row["parsed"] for row in rows(run))
    assert found["accuracy"] == pytest.approx(sum(row["correct"] for row in rows(run)) / 18)
    assert {kind: row["chance"] for kind, row in found["by_kind"].items()} == chance(few)
    assert {kind: row["num"] for kind, row in found["by_kind"].items()} == dict.fromkeys(KINDS, 3)
    assert found["chance"] == pytest.approx(sum(chance(few).values()) / 6)


def test_a_few_of_each_kind_are_kept_as_pictures(run: Path, few: list[Item]) -> None:
    kept = {path.stem for path in (run / "eval/minibench/pictures").iterdir()}
    by_kind = {kind: [item.id for item in few if item.kind == kind and item.id in kept] for kind in KINDS}
    assert all(len(mine) == 2 for mine in by_kind.values())
    assert all(decode_image((run / f"eval/minibench/pictures/{name}.jpg").read_bytes()).size for name in kept)


def part(run: Path) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.section(run)).split())


Change = Callable[[dict[str, Any]], None]


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda found: found.update(accuracy=0.31313), "31.3 %"),
        (lambda found: found.update(unparsed=31_317), "31,317"),
        (lambda found: found["by_kind"]["when"].update(blank=0.77), "77 %"),
    ],
)
def test_the_page_shows_the_summary_and_nothing_else(run: Path, change: Change, shown: str) -> None:
    path = run / "eval/minibench/summary.json"
    before = path.read_text()
    assert shown not in part(run)
    found = json.loads(before)
    change(found)
    path.write_text(json.dumps(found))
    assert shown in part(run)
    path.write_text(before)


def test_examples_say_what_was_asked_and_said(run: Path) -> None:
    shown, kept = part(run), {path.stem for path in (run / "eval/minibench/pictures").iterdir()}
    for row in rows(run):
        assert (row["question"] in shown) or row["id"] not in kept
    assert page.section(run).count("<img") == 12


def test_a_run_without_it_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(NotRunError, match="not run yet: keyeforge eval run"):
        page.section(tmp_path)


@pytest.mark.parametrize(
    ("said", "choices", "answer", "right"),
    [
        ("Left.", ("left", "right"), "left", True),
        ("left or right", ("left", "right"), None, False),
        ("it is left", ("left", "right"), None, False),
        ("left\n", ("left", "right"), "left", True),
        ("", ("left", "right"), None, False),
        ("LEFT", (), "left", True),
        ("  le\tft ", (), "le ft", False),
        (" ", (), None, False),
    ],
)
def test_an_answer_is_the_whole_reply_or_none(
    said: str, choices: tuple[str, ...], answer: str | None, right: bool
) -> None:
    one = Instance("i", "k", "q", "left", choices, b"", b"", "c")
    assert (answer_of(said, one), is_correct(said, one)) == (answer, right)


def test_clips_are_asked_about_as_videos(few: list[Item]) -> None:
    from eval.tasks.instance import question

    for item in few:
        parts = question(item.question, item.media).messages[0].parts
        assert [part.kind for part in parts] == ["video" if isinstance(item.media, Clip) else "image", "text"]
