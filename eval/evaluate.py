"""One evaluation: a checkpoint, its tasks, their predictions and summaries."""

import dataclasses
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from data_engine import demo_corpora
from data_engine.media import write_atomic
from data_engine.sample import Part, user
from eval import stats
from eval.cache import AnswerCache
from eval.extract import closed_answer
from eval.runner import Answerer, Question, ask
from eval.tasks import easy_vqa
from model.processing import KeyeProcessor
from strict_yaml import Strict
from train.engine import fingerprint
from train.start import load_model, model_folder

Progress = Callable[[str, int, int], None]


class Evaluation(Strict):
    """An evaluation recipe: the checkpoint (a stage's folder or a model's), the tasks, where corpora lie."""

    checkpoint: str
    tasks: list[Literal["easy_vqa_test"]]
    corpora: str | None = None
    batch_size: int = 256


def evaluate(recipe: Evaluation, data: Path, on_progress: Progress) -> dict[str, dict[str, Any]]:
    """Runs every task; leaves DATA/eval/<task>/predictions.jsonl and summary.json. Returns the summaries."""
    folder = model_folder(data / recipe.checkpoint)
    model = load_model(folder).eval()
    processor = KeyeProcessor.from_pretrained(folder)
    answerer = Answerer(model, processor, fingerprint(model), batch_size=recipe.batch_size)
    root = Path(recipe.corpora) if recipe.corpora else demo_corpora.default_cache()
    return {task: judge_easy_vqa(answerer, root, data / "eval" / task, on_progress) for task in recipe.tasks}


def judge_easy_vqa(answerer: Answerer, root: Path, out: Path, on_progress: Progress) -> dict[str, Any]:
    """Accuracy on the official test split, with the pictures and with blank ones, beside blind baselines."""
    started = time.perf_counter()
    items, pictures, allowed = easy_vqa.load(root / "easy_vqa_test")
    cache = AnswerCache(out / "answers.jsonl")
    seen = _ask(answerer, items, pictures, cache, lambda done, total: on_progress("easy-vqa test", done, total))
    blank = {name: _blank(picture) for name, picture in pictures.items()}
    unseen = _ask(answerer, items, blank, cache, lambda done, total: on_progress("  blank images", done, total))
    rows = [
        {**dataclasses.asdict(item), "said": said, "said_blank": said_blank, "correct": right}
        for item, said, said_blank, right in zip(items, seen, unseen, _correct(items, seen, allowed), strict=True)
    ]
    hits = [float(row["correct"]) for row in rows]
    summary = {
        "accuracy": stats.mean(hits),
        "standard_error": stats.clustered_standard_error(hits, [item.image for item in items]),
        "accuracy_blank_images": stats.mean(_correct(items, unseen, allowed)),
        **easy_vqa.baselines(items, easy_vqa.train_answers(root / "easy_vqa/train.jsonl")),
        "num_samples": len(items),
        "unparsed": sum(closed_answer(said, allowed) is None for said in seen),
        "by_kind": {
            kind: stats.mean([float(row["correct"]) for row in rows if row["kind"] == kind])
            for kind in sorted({item.kind for item in items})
        },
        "weights": answerer.weights,
        "pictures": str(root / "easy_vqa_test" / "images"),
        "seconds": round(time.perf_counter() - started, 1),
    }
    write_atomic(out / "predictions.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    write_atomic(out / "summary.json", json.dumps(summary, indent=1).encode())
    return summary


def _ask(
    answerer: Answerer,
    items: Sequence[easy_vqa.Item],
    pictures: dict[str, bytes],
    cache: AnswerCache,
    on_progress: Callable[[int, int], None],
) -> list[str]:
    questions = [Question((user(Part("image", media=(0,)), item.question),), (pictures[item.image],)) for item in items]
    return ask(answerer, questions, cache, on_progress)


def _correct(items: Sequence[easy_vqa.Item], said: Sequence[str], allowed: Sequence[str]) -> list[bool]:
    return [closed_answer(words, allowed) == item.answer for item, words in zip(items, said, strict=True)]


def _blank(picture: bytes) -> bytes:
    """A white page of the same size: the benchmark's own background with nothing on it.

    Its pictures lie on near-white. A grey or black page would be a colour to name, not the absence of a shape.
    """
    buffer = io.BytesIO()
    Image.new("RGB", Image.open(io.BytesIO(picture)).size, "white").save(buffer, "PNG")
    return buffer.getvalue()
