"""The official files, as the demo fetches them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Part, Sample, user
from data_engine.sources import conversations
from eval.tasks.easy_vqa import Item, baselines, kind, load, train_answers
from eval.tasks.instance import TaskError


def test_the_official_split_and_what_blind_guessing_reaches(corpora: Any) -> None:
    items, pictures, answers = load(corpora / "easy_vqa_test")
    assert (len(items), len(pictures), len(answers)) == (9673, 1000, 13)
    assert {item.answer for item in items} == set(answers)
    train = train_answers(corpora / "easy_vqa/train.jsonl")
    assert len(train) == 38575
    found = baselines(items, train)
    assert found["majority_baseline"] == pytest.approx(0.373, abs=5e-4)
    assert found["question_only_baseline"] == pytest.approx(0.670, abs=5e-4)


def test_prompts_have_the_form_of_the_training_samples(corpora: Any, tmp_path: Path) -> None:
    root = corpora / "easy_vqa"
    source = Source(format="conversations", path=".", modality="image", task="vqa", licence="MIT")
    unit = conversations.units(root, {"unit_bytes": 500})[0]
    samples = list(conversations.read(root, unit, "easy_vqa", source, MediaStore(tmp_path)))
    questions = [question for question, _ in train_answers(root / "train.jsonl")]
    for sample, question in zip(samples, questions, strict=False):
        assert isinstance(sample, Sample)
        assert sample.messages[:-1] == (user(Part("image", media=(0,)), question),)


def test_baselines_by_hand() -> None:
    items = [
        Item(str(n), "i", question, answer, "") for n, (question, answer) in enumerate(zip("aab", "xyx", strict=True))
    ]
    train = [("a", "y"), ("a", "y"), ("a", "x"), ("c", "x"), ("c", "x")]
    found = baselines(items, train)
    assert found["majority_baseline"] == pytest.approx(2 / 3)  # x everywhere
    assert found["question_only_baseline"] == pytest.approx(2 / 3)  # a: y, unseen b: x


def test_every_question_has_its_kind(corpora: Any) -> None:
    items, _, _ = load(corpora / "easy_vqa_test")
    colours = {"black", "gray", "red", "green", "blue", "yellow", "teal", "brown"}
    by_kind = {name: Counter(item.answer for item in items if item.kind == name) for name in {i.kind for i in items}}
    assert by_kind.keys() == {"shape", "colour", "presence", "negated"}
    assert set(by_kind["shape"]) == {"circle", "rectangle", "triangle"}
    assert set(by_kind["colour"]) == colours
    assert set(by_kind["presence"]) == set(by_kind["negated"]) == {"yes", "no"}


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("what is the red shape?", "shape"),
        ("what shape is present?", "shape"),
        ("what is the color of the shape?", "colour"),
        ("what color is the circle?", "colour"),
        ("is a green shape present?", "presence"),
        ("does the image not contain a red shape?", "negated"),
        ("is no rectangle present?", "negated"),
        ("is there not a black shape?", "negated"),
    ],
)
def test_kinds(question: str, name: str) -> None:
    assert kind(question) == name


def test_missing_files_name_the_command(tmp_path: Path) -> None:
    (tmp_path / "questions.json").write_text(json.dumps([]))
    with pytest.raises(TaskError, match=r"answers\.txt is missing; run `keyeforge demo fetch`"):
        load(tmp_path)
