"""One evaluation: a checkpoint, its tasks, their predictions and summaries."""

from pathlib import Path
from typing import Any, Literal

from data_engine import demo_corpora
from eval.minibench.items import items
from eval.runner import Answerer, load_answerer
from eval.tasks import easy_vqa, minibench
from eval.tasks.instance import Instance, Progress
from strict_yaml import Strict

Task = Literal["easy_vqa_test", "minibench"]


class Evaluation(Strict):
    """An evaluation recipe: the checkpoint (a stage's folder or a model's), the tasks, where corpora lie."""

    checkpoint: str
    tasks: list[Task]
    corpora: str | None = None
    batch_size: int = 256


def evaluate(recipe: Evaluation, data: Path, on_progress: Progress) -> dict[str, dict[str, Any]]:
    """Runs every task; leaves DATA/eval/<task>/predictions.jsonl and summary.json. Returns the summaries."""
    answerer = load_answerer(data / recipe.checkpoint, recipe.batch_size)
    corpora = corpora_folder(recipe.corpora)
    return {task: _judge(task, answerer, corpora, data / "eval" / task, on_progress) for task in recipe.tasks}


def corpora_folder(given: str | None) -> Path:
    """Where fetched corpora lie: the folder given, else the demo's cache."""
    return Path(given) if given else demo_corpora.default_cache()


def instances(task: Task, corpora: Path) -> list[Instance]:
    """All instances of a task. Raises TaskError where its files are missing."""
    return minibench.instances() if task == "minibench" else easy_vqa.instances(corpora)


def _judge(task: Task, answerer: Answerer, corpora: Path, out: Path, on_progress: Progress) -> dict[str, Any]:
    if task == "minibench":
        return minibench.judge(answerer, items(), out, on_progress)
    return easy_vqa.judge(answerer, corpora, out, on_progress)
