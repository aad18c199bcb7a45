"""easy-vqa (Victor Zhou, MIT): one shape on a 64 x 64 picture, questions with 13 possible answers.

The official test split is evaluated; the train split is used only for the baselines that do not look.
"""

import io
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from eval.runner import Answerer
from eval.tasks.instance import Instance, Progress, TaskError, run, scores, write


@dataclass(frozen=True, slots=True)
class Item:
    """One question about one picture; `image` names the picture, `kind` the type of question."""

    id: str
    image: str
    question: str
    answer: str
    kind: str


def load(folder: Path) -> tuple[list[Item], dict[str, bytes], list[str]]:
    """The test split: items, encoded pictures by name, and the possible answers. Raises TaskError."""
    questions, answers = folder / "questions.json", folder / "answers.txt"
    if not questions.is_file() or not answers.is_file():
        raise TaskError(f"{folder}: questions.json or answers.txt is missing; run `keyeforge demo fetch`")
    rows = json.loads(questions.read_text(encoding="utf-8"))
    items = [
        Item(f"test-{number}", f"{image}.png", question, answer, kind(question))
        for number, (question, answer, image) in enumerate(rows)
    ]
    pictures = {name: (folder / "images" / name).read_bytes() for name in sorted({item.image for item in items})}
    return items, pictures, answers.read_text(encoding="utf-8").split()


def kind(question: str) -> str:
    """What a question asks for, by its first words."""
    if question.startswith("what shape") or (question.startswith("what is the") and "color" not in question):
        return "shape"
    if question.startswith("what"):
        return "colour"
    return "negated" if {"not", "no"} & set(question.split()) else "presence"


def train_answers(lines: Path) -> list[tuple[str, str]]:
    """(question, answer) of every line of the train split's conversations."""
    turns = [json.loads(line)["conversations"] for line in lines.read_text(encoding="utf-8").splitlines()]
    return [(asked["value"].replace("<image>", "").strip(), said["value"]) for asked, said in turns]


def baselines(items: Sequence[Item], train: Sequence[tuple[str, str]]) -> dict[str, float]:
    """What blind guessing reaches: the commonest train answer, and the commonest one to each very question."""
    overall = Counter(answer for _, answer in train).most_common(1)[0][0]
    return {
        "majority_baseline": _share(item.answer == overall for item in items),
        "question_only_baseline": _share(blind_hits(items, train)),
    }


def blind_hits(items: Sequence[Item], train: Sequence[tuple[str, str]]) -> list[bool]:
    """For each item, whether the commonest train answer to its very question (or to all, where new) is right."""
    overall = Counter(answer for _, answer in train).most_common(1)[0][0]
    by_question: Mapping[str, Counter[str]] = defaultdict(Counter)
    for question, answer in train:
        by_question[question][answer] += 1
    best = {question: counts.most_common(1)[0][0] for question, counts in by_question.items()}
    return [item.answer == best.get(item.question, overall) for item in items]


def _share(hits: Iterable[bool]) -> float:
    found = list(hits)
    return sum(found) / max(len(found), 1)


def instances(corpora: Path) -> list[Instance]:
    """The test split under `corpora`, in its own order. Raises TaskError."""
    items, pictures, answers = load(corpora / "easy_vqa_test")
    return _instances(items, pictures, answers)


def _instances(items: Sequence[Item], pictures: Mapping[str, bytes], answers: Sequence[str]) -> list[Instance]:
    blank = {name: _blank(picture) for name, picture in pictures.items()}
    allowed = tuple(answers)
    return [
        Instance(
            item.id, item.kind, item.question, item.answer, allowed, pictures[item.image], blank[item.image], item.image
        )
        for item in items
    ]


def judge(answerer: Answerer, corpora: Path, out: Path, on_progress: Progress) -> dict[str, Any]:
    """Accuracy on the official test split, with the pictures and with blank ones, beside blind baselines.

    Leaves `out`/predictions.jsonl and summary.json. Raises TaskError where files are missing.
    """
    started = time.perf_counter()
    items, pictures, allowed = load(corpora / "easy_vqa_test")
    train = train_answers(corpora / "easy_vqa/train.jsonl")
    blind = list(zip(items, blind_hits(items, train), strict=True))
    kinds = sorted({item.kind for item in items})
    chance = {name: _share(hit for item, hit in blind if item.kind == name) for name in kinds}
    asked = _instances(items, pictures, allowed)
    rows = run(answerer, asked, out, "easy-vqa test", on_progress)
    rows = [{**row, "image": item.image} for row, item in zip(rows, items, strict=True)]
    summary = {
        **scores(rows, [item.image for item in items], chance),
        **baselines(items, train),
        "weights": answerer.weights,
        "pictures": str(corpora / "easy_vqa_test" / "images"),
        "seconds": round(time.perf_counter() - started, 1),
    }
    write(out, rows, summary)
    return summary


def _blank(picture: bytes) -> bytes:
    """A white page of the same size: the benchmark's own background with nothing on it.

    Its pictures lie on near-white. A grey or black page would be a colour to name, not the absence of a shape.
    """
    buffer = io.BytesIO()
    Image.new("RGB", Image.open(io.BytesIO(picture)).size, "white").save(buffer, "PNG")
    return buffer.getvalue()
