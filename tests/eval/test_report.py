"""The page of a real small run: every part is there, and no number comes from elsewhere."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cot_factory.recipe import Factory
from cot_factory.run import factor
from data_engine import catalog
from data_engine.report.html import NotRunError
from eval.evaluate import Evaluation, evaluate
from eval.fusion import Fusion, fuse
from eval.minibench.items import items
from eval.report import write
from eval.report.page import SECTIONS
from eval.report.training import running_mean
from eval.runner import load_answerer
from eval.tasks import minibench
from tests.data_engine.language_models import smollm2
from train.run import train
from train.stages import load_stage

RECIPES = Path(__file__).parents[2] / "train" / "recipes" / "demo"
SMALL = ["steps=3", "context=512", "batch_tokens=1024", "optimizer.warmup_steps=1", "heldout.samples=6"]
Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def run(small_run: Path, small_corpora: Path, corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the small run that was also trained for a few steps and judged on a few test questions."""
    out = Path(shutil.copytree(small_run, tmp_path_factory.mktemp("report") / "run", symlinks=True))
    for stage in ("warmup", "stage1"):
        train(load_stage(RECIPES / f"{stage}.yaml", SMALL), out)
    root = tmp_path_factory.mktemp("corpora")
    test = corpora / "easy_vqa_test"
    (root / "easy_vqa_test/images").mkdir(parents=True)
    rows = json.loads((test / "questions.json").read_text())[:24]
    (root / "easy_vqa_test/questions.json").write_text(json.dumps(rows))
    shutil.copy(test / "answers.txt", root / "easy_vqa_test")
    for image in {row[2] for row in rows}:
        shutil.copy(test / f"images/{image}.png", root / "easy_vqa_test/images")
    (root / "easy_vqa").symlink_to(small_corpora / "easy_vqa")
    recipe = Evaluation(checkpoint="train/stage1", tasks=["easy_vqa_test"], corpora=str(root))
    evaluate(recipe, out, lambda name, done, total: None)
    answerer = load_answerer(out / "train/stage1")
    minibench.judge(answerer, items(per_kind=2), out / "eval/minibench", lambda name, done, total: None)
    expert = {"label": "words", "steps": 3, "from": "train/stage1"}
    fusion = {"base": "train/warmup", "experts": [expert], "weights": [0.5, 1.0], "tasks": {"easy_vqa_test": None}}
    fuse(Fusion.model_validate({**fusion, "corpora": str(root)}), out, lambda done, total: None)
    factor(small_factory(small_corpora), out / "cot")
    return out


def small_factory(corpora: Path) -> Factory:
    """The demo's own recipe and teacher, with few and short chains."""
    recipe = yaml.safe_load((Path(__file__).parents[2] / "cot_factory/recipes/demo.yaml").read_text())
    recipe["root"], recipe["teachers"][0]["folder"] = str(corpora), smollm2()
    recipe["questions"][0]["source"]["path"] = "easy_vqa"
    recipe["questions"][0]["limit"] = 3
    recipe["generate"] |= {"paths": 3, "max_tokens": 24}
    return Factory.model_validate(recipe)


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return write(run).read_text(encoding="utf-8")


def part(page: str, anchor: str) -> str:
    """A section as it is read: no pictures, no tags, white space folded."""
    found = re.search(rf'<section id="{anchor}">(.*?)</section>', page, re.DOTALL)
    assert found, f"no section {anchor}"
    return read(found[1])


def read(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_every_part_of_a_whole_run_is_there(page: str) -> None:
    for section in SECTIONS:
        assert f'href="#{section.anchor}"' in page
        assert "not run yet" not in part(page, section.anchor).lower(), section.anchor


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    assert len(page) < 6_000_000
    # Great Expectations' pages are a site of their own, beside the gate's results: a link, not a part.
    assert not re.search(r'(?:src|href)="(?!data:|#|\.\./steps/gate-)', page)
    assert "@import" not in page and "url(http" not in page


def test_the_page_says_what_the_files_say(page: str, run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    kept = sum(row["kept"] for row in summary["corpora"].values())
    assert f'<p class="value">{kept:,}</p>' in page
    stage = json.loads((run / "train/stage1/summary.json").read_text())
    training = part(page, "training")
    for key in ("loss_first", "loss_last", "heldout_loss", "heldout_loss_shuffled_images"):
        assert f"{stage[key]:.3f}" in training
    assert "vision and language: same checksums before and after" in training
    judged = json.loads((run / "eval/easy_vqa_test/summary.json").read_text())
    evaluation = part(page, "evaluation")
    for key in ("accuracy", "accuracy_blank_images", "question_only_baseline", "majority_baseline"):
        assert f"{100 * judged[key]:.1f} %" in evaluation
    assert "24 questions" in evaluation


def set_in(*keys: Any, to: Any) -> Edit:
    def edit(found: dict[str, Any]) -> None:
        for key in keys[:-1]:
            found = found[key]
        found[keys[-1]] = to

    return edit


def file_of(run: Path, name: str) -> Path:
    step, _, rest = name.partition(":")
    return catalog.steps(run)[step] / rest if rest else run / name


CHANGES = [
    ("summary.json", set_in("corpora", "stamps", "kept", to=31337), "corpora", "31,337"),
    ("exact.pages:step.json", set_in("counts", "samples_in", to=31344), "twins", "31,344"),
    ("decontaminate.champ:recall.json", set_in("words: as they are", "recall", to=0.31345), "leaks", "31.3 %"),
    ("balance.easy_vqa:balance.json", set_in("cap", to=31346), "balance", "31,346"),
    ("gate:gate.json", set_in("expectations", 0, "observed", "stamps", to=31338.0), "gate", "31,338"),
    ("mix:mix.json", set_in("largest_sample", to=31339), "mix", "31,339"),
    ("shards/manifest.json", set_in("splits", "heldout", 0, "bytes", to=31_340_000), "mix", "31.3 MB"),
    ("train/stage1/summary.json", set_in("heldout_loss_shuffled_images", to=31.341), "training", "31.341"),
    ("eval/easy_vqa_test/summary.json", set_in("question_only_baseline", to=0.31342), "evaluation", "31.3 %"),
    ("eval/minibench/summary.json", set_in("by_kind", "ocr", "chance", to=0.31), "minibench", "31 %"),
    ("fusion/summary.json", set_in("best", "report", to=0.31343), "fusion", "31.3 %"),
    ("fusion/best/divergence.json", set_in("whole", "distances", 0, to=31.34), "fusion", "31.34"),
    ("dedup.stamps:step.json", set_in("cpu_seconds", to=313.43), "time", "313.43"),
]


@pytest.mark.parametrize(("name", "edit", "anchor", "shown"), CHANGES, ids=[change[0] for change in CHANGES])
def test_no_number_without_its_file(
    run: Path, page: str, tmp_path: Path, name: str, edit: Edit, anchor: str, shown: str
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run", symlinks=True))
    path = file_of(copy, name)
    found = json.loads(path.read_text())
    edit(found)
    path.write_text(json.dumps(found))
    assert shown not in part(page, anchor)
    assert shown in read(next(section.body(copy) for section in SECTIONS if section.anchor == anchor))


def test_a_changed_file_changes_the_page(run: Path, page: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run", symlinks=True))
    path = copy / "train/stage1/metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["loss"] *= 3
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    label = "aria-label='Loss of stage1 over its steps'"
    curves = [re.search(rf"{label}.*?</svg>", text, re.DOTALL) for text in (page, write(copy).read_text("utf-8"))]
    assert curves[0] and curves[1] and curves[0][0] != curves[1][0]


def test_parts_that_have_not_run_say_so(small_run: Path) -> None:
    for section in SECTIONS:
        if section.anchor in {"training", "evaluation", "minibench", "fusion"}:
            with pytest.raises(NotRunError, match="not run yet: keyeforge"):
                section.body(small_run)


def test_an_empty_folder_gives_a_page_too(tmp_path: Path) -> None:
    page = write(tmp_path).read_text(encoding="utf-8")
    for section in SECTIONS:
        assert part(page, section.anchor).lower().count("not run yet") == 1
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write(tmp_path / "nowhere")


def test_running_mean() -> None:
    import numpy as np

    values = np.array([4.0, 2.0, 6.0, 8.0])
    assert running_mean(values, 2).tolist() == [4.0, 3.0, 4.0, 7.0]
    assert running_mean(values, 1).tolist() == values.tolist()


def test_a_browser_shows_it_without_complaint(run: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium here: apt-get install chromium")
    quiet = "--no-first-run --disable-background-networking --disable-component-update --disable-sync --disable-quic"
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", *quiet.split(), "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=2000", "--dump-dom", write(run).as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=180)
    assert "CONSOLE" not in done.stderr, done.stderr
    assert len(re.findall("<section id=", done.stdout)) == len(SECTIONS)
