"""A sweep over merges of two tiny models, on questions whose truth is what the expert says."""

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from data_engine.report.html import NotRunError
from eval.cache import AnswerCache
from eval.cli import app
from eval.extract import plain
from eval.fusion import Fusion, choose, fuse, judging
from eval.report import fusion
from eval.runner import ask, load_answerer
from eval.tasks.instance import question
from model.fusion.sweep import half_of
from model.modeling import build
from model.processing import KeyeProcessor
from model.tokenizer import train_bpe
from model.visual_tokens import visual_budget
from strict_yaml import RecipeError, parse_yaml

WORDS = ["what is it?", "is it red?", "which shape is here?", "is there a blue shape?", "what colour is the shape?"]


def png(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (40 * number % 256, 90 * number % 256, 255 - 20 * number)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models of one vocabulary, `base` and `expert`, and corpora that the expert answers rightly."""
    root = tmp_path_factory.mktemp("run")
    tokenizer = train_bpe([*WORDS, "red blue circle"] * 3, 400, root / "tokenizer")
    for seed, name in enumerate(("base", "expert")):
        torch.manual_seed(seed)
        build("tiny", tokenizer).eval().save_pretrained(root / name)
        KeyeProcessor(tokenizer, visual_budget("tiny")).save_pretrained(root / name)
    folder = root / "corpora/easy_vqa_test"
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(8):
        (folder / f"images/{number}.png").write_bytes(png(number))
        asked = [question(words, png(number)) for words in WORDS]
        said = ask(load_answerer(root / "expert"), asked, AnswerCache(root / "said.jsonl"), lambda done, total: None)
        answers = [plain(words) for words in said]
        rows += [[q, a, number] for q, a in zip(WORDS, answers, strict=True) if a and a.split() == [a]]
    assert len(rows) >= 20  # else the seed is to be changed: this expert says too little
    (folder / "questions.json").write_text(json.dumps(rows))
    (folder / "answers.txt").write_text("\n".join(sorted({row[1] for row in rows})), encoding="utf-8")
    return root


def recipe(run: Path, **changes: object) -> Fusion:
    settings = {
        "base": "base",
        "experts": [{"label": "parrot", "steps": 10, "from": "expert"}],
        "weights": [0.5, 1.0],
        "tasks": {"easy_vqa_test": None},
        "corpora": str(run / "corpora"),
    }
    return Fusion.model_validate(settings | changes)


def test_the_expert_itself_is_found_and_kept(run: Path) -> None:
    seen: list[tuple[int, int]] = []
    done = fuse(recipe(run), run, lambda number, total: seen.append((number, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    base, _, whole = done.rows
    assert [row.weight for row in done.rows] == [0.0, 0.5, 1.0] and base.label == "base"
    assert (whole.choose, whole.report) == (1.0, 1.0) and done.best == whole
    assert base.report < 0.5  # another model says other things
    summary = json.loads((run / "fusion/summary.json").read_text())
    assert summary["rows"] == json.loads((run / "fusion/sweep.json").read_text())["rows"]
    assert summary["experts"] == [{"label": "parrot", "steps": 10, "from": "expert"}] and summary["seconds"] > 0
    divergence = json.loads((run / "fusion/best/divergence.json").read_text())
    assert divergence["whole"]["distances"][0] == pytest.approx(whole.divergence)
    assert sorted(path.name for path in run.glob(".fusion*")) == []


def test_the_page_shows_one_line_an_expert_and_the_chosen_merge(run: Path) -> None:
    done = fuse(recipe(run), run, lambda number, total: None)
    page = fusion.section(run)
    assert f"<b>{done.best.label}</b> at 10 steps" in page and "parrot, 10 steps</text>" in page
    assert page.count("</tr>") == 1 + 3  # the head, the base and two merges
    divergence = json.loads((run / "fusion/best/divergence.json").read_text())
    for module in divergence["modules"]:
        assert f"{module['name']}</span>" in page and f"{module['distances'][0]:.2f}</span>" in page
    with pytest.raises(NotRunError, match="not run yet: keyeforge eval sweep"):
        fusion.section(run / "base")


def test_lines_start_at_the_base_and_go_by_weight() -> None:
    rows = [
        {"label": label, "steps": steps, "weight": weight}
        for label, steps, weight in (
            ("base", None, 0.0),
            ("a x 1", 20, 1.0),
            ("a x 0.5", 20, 0.5),
            ("a x 1", 10, 1.0),
            ("b x 1", 10, 1.0),
        )
    ]
    found = fusion.lines(rows)
    assert list(found) == [("a", 10), ("b", 10), ("a", 20)]
    assert [row["weight"] for row in found["a", 20]] == [0.0, 0.5, 1.0]


def test_rows_are_the_scores_of_either_half(run: Path, tmp_path: Path) -> None:
    done = fuse(recipe(run), run, lambda number, total: None)
    chosen = choose({"easy_vqa_test": None}, run / "corpora")
    scores = judging(chosen, AnswerCache(tmp_path / "a.jsonl"), 7)(run / "base")
    for half, found in (("choose", done.rows[0].choose), ("report", done.rows[0].report)):
        mine = [score for item, score in scores.items() if half_of(item) == half]
        assert found == pytest.approx(sum(mine) / len(mine))
    assert done.num_choose + done.num_report == len(scores)


def test_a_limit_draws_the_same_few_every_time(run: Path) -> None:
    few, again = (choose({"easy_vqa_test": 6}, run / "corpora") for _ in range(2))
    everything = choose({"easy_vqa_test": None}, run / "corpora")
    assert few == again and len(few) == 6
    assert [one for one in everything if one in few] == few  # in the task's own order


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("base: b\nexpert: []\n", "expert: unknown key; did you mean 'experts'?"),
        ("method: dare_linear\n", "dare_linear needs it, the share of values to keep"),
        ("density: 0.5\n", "task_arithmetic has none"),
    ],
)
def test_a_wrong_recipe_names_the_field(tmp_path: Path, text: str, line: str) -> None:
    whole = "" if text.startswith("base") else "base: b\nexperts: [{label: l, steps: 1, from: e}]\nweights: [1]\n"
    path = tmp_path / "fusion.yaml"
    path.write_text(whole + "tasks: {minibench: 3}\n" + text)
    with pytest.raises(RecipeError, match=line.replace("?", r"\?")):
        parse_yaml(path, Fusion)


def test_a_missing_expert_is_one_line_and_exit_code_two(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "fusion.yaml"
    path.write_text(
        "base: base\nexperts: [{label: l, steps: 1, from: train/sft}]\nweights: [1]\ntasks: {minibench: 3}\n"
    )
    result = CliRunner().invoke(app, ["sweep", str(path), "--data", str(run)])
    assert result.exit_code == 2
    assert "train/sft: neither a model folder nor a trained stage" in result.output
