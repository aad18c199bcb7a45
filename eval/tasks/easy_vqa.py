"""easy-vqa (Victor Zhou, MIT): one shape on a 64 x 64 picture, questions with 13 possible answers.

The official test split is evaluated; the train split is used only for the baselines that do not look.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Item:
    """One question about one picture; `image` names the picture, `kind` the type of question."""

    id: str
    image: str
    question: str
    answer: str
    kind: str


class TaskError(ValueError):
    """Files of a benchmark that are missing or not what they should be."""


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
    by_question: Mapping[str, Counter[str]] = defaultdict(Counter)
    for question, answer in train:
        by_question[question][answer] += 1
    best = {question: counts.most_common(1)[0][0] for question, counts in by_question.items()}
    return {
        "majority_baseline": _share(item.answer == overall for item in items),
        "question_only_baseline": _share(item.answer == best.get(item.question, overall) for item in items),
    }


def _share(hits: Iterable[bool]) -> float:
    found = list(hits)
    return sum(found) / max(len(found), 1)
