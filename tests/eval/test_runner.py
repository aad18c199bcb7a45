"""Batched answers against a plain loop over whole prompts, and a cache that never serves what is stale."""

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from data_engine.sample import Part, user
from eval import runner
from eval.cache import AnswerCache, key_of
from eval.cli import app
from eval.evaluate import Evaluation, evaluate
from eval.runner import Answerer, Question, ask
from model.modeling import build
from model.processing import KeyeProcessor
from model.tokenizer import train_bpe
from model.visual_tokens import visual_budget
from train.feed.conversation import encode

COLOURS = [(220, 30, 30), (30, 200, 30), (30, 30, 220), (230, 220, 30)]
WORDS = ["which colour is this?", "is it red?", "what is in the upper left corner of this picture, please?"]


def png(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def answerer(tmp_path_factory: pytest.TempPathFactory) -> Answerer:
    tokenizer = train_bpe([*WORDS, "red green blue yellow yes no"] * 3, 400, tmp_path_factory.mktemp("tokenizer"))
    torch.manual_seed(3)
    model = build("tiny", tokenizer).eval()
    return Answerer(model, KeyeProcessor(tokenizer, visual_budget("tiny")), "w0", batch_size=5, max_new_tokens=6)


@pytest.fixture
def questions() -> list[Question]:
    """Prompts of many lengths and picture sizes, some of them twice."""
    sizes = [(64, 64), (150, 64), (64, 220)]
    made = [
        Question((user(Part("image", media=(0,)), WORDS[(n + m) % 3]),), (png(colour, sizes[(n * m) % 3]),))
        for n, colour in enumerate(COLOURS)
        for m in range(4)
    ]
    return [*made, made[3], Question((user("is it red?"),), ()), made[0]]


def none(done: int, total: int) -> None:
    """Nobody watches."""


@torch.no_grad()
def one_by_one(answerer: Answerer, question: Question) -> str:
    """Greedy decoding without batch, padding or cache: the whole sequence anew for every token."""
    encoded = encode(answerer.processor, question.messages, question.media, prompt=True)
    tensors = answerer.processor.batch([encoded])
    settings = answerer.model.generation_config
    said: list[int] = []
    for _ in range(answerer.max_new_tokens):
        inputs = {
            name: tensors[name] for name in ("input_ids", "position_ids", "pixel_values", "grid_thw") if name in tensors
        }
        logits = answerer.model(**inputs).logits[0, -1]
        logits[settings.suppress_tokens] = -torch.inf
        token = int(logits.argmax())
        if token in settings.eos_token_id:
            break
        said.append(token)
        tensors["input_ids"] = torch.cat([tensors["input_ids"], torch.tensor([[token]])], 1)
        following = tensors["position_ids"].max() + 1
        tensors["position_ids"] = torch.cat([tensors["position_ids"], following.expand(3, 1, 1)], 2)
    return str(answerer.processor.tokenizer.decode(said, skip_special_tokens=True))


def test_batches_say_what_one_by_one_says(answerer: Answerer, questions: list[Question], tmp_path: Path) -> None:
    said = ask(answerer, questions, AnswerCache(tmp_path / "a.jsonl"), none)
    expected = [one_by_one(answerer, question) for question in questions]
    assert said == expected
    assert len(set(said)) > 5  # a model that always says the same would prove nothing


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Sizes of the batches that reached the model."""
    sizes: list[int] = []
    generate = runner.generate

    def counting(answerer: Answerer, encoded: list[object]) -> list[str]:
        sizes.append(len(encoded))
        return generate(answerer, encoded)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "generate", counting)
    return sizes


def test_equal_questions_are_asked_once_and_never_again(
    answerer: Answerer, questions: list[Question], tmp_path: Path, asked: list[int]
) -> None:
    path = tmp_path / "a.jsonl"
    first = ask(answerer, questions, AnswerCache(path), none)
    distinct = len({(q.messages, q.media) for q in questions})
    assert sum(asked) == distinct < len(questions)
    assert ask(answerer, questions, AnswerCache(path), none) == first
    assert sum(asked) == distinct


def test_other_weights_are_asked_anew(
    answerer: Answerer, questions: list[Question], tmp_path: Path, asked: list[int]
) -> None:
    path = tmp_path / "a.jsonl"
    ask(answerer, questions[:3], AnswerCache(path), none)
    other = Answerer(answerer.model, answerer.processor, "w1")
    ask(other, questions[:3], AnswerCache(path), none)
    assert sum(asked) == 6
    longer = dataclasses.replace(other, max_new_tokens=answerer.max_new_tokens + 1)
    ask(longer, questions[:3], AnswerCache(path), none)  # what was cut short before is no answer now
    assert sum(asked) == 9


def test_a_killed_run_keeps_what_it_has_answered(
    answerer: Answerer, questions: list[Question], tmp_path: Path, asked: list[int]
) -> None:
    path = tmp_path / "a.jsonl"
    first = ask(answerer, questions, AnswerCache(path), none)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:4]) + lines[4][:9])  # killed while it wrote the fifth
    asked.clear()
    assert ask(answerer, questions, AnswerCache(path), none) == first
    assert sum(asked) == len(lines) - 4
    assert ask(answerer, questions, AnswerCache(path), none) == first
    assert sum(asked) == len(lines) - 4


def test_keys_tell_apart_weights_words_pixels_and_shapes(answerer: Answerer) -> None:
    def encoded(words: str, colour: tuple[int, int, int], size: tuple[int, int]) -> str:
        messages = (user(Part("image", media=(0,)), words),)
        return key_of("w", encode(answerer.processor, messages, [png(colour, size)], prompt=True))

    base = encoded("is it red?", (9, 9, 9), (64, 64))
    assert base == encoded("is it red?", (9, 9, 9), (64, 64))
    others = [
        encoded("is it blue?", (9, 9, 9), (64, 64)),
        encoded("is it red?", (9, 9, 30), (64, 64)),
        encoded("is it red?", (9, 9, 9), (64, 220)),
    ]
    assert len({base, *others}) == 4


@pytest.fixture
def benchmark(tmp_path: Path, answerer: Answerer) -> Path:
    """A tiny easy-vqa in the official form, whose answers include what the untrained model happens to say."""
    model = tmp_path / "model"
    answerer.model.save_pretrained(model)
    answerer.processor.save_pretrained(model)
    folder = tmp_path / "corpora" / "easy_vqa_test"
    (folder / "images").mkdir(parents=True)
    rows = []
    for number, colour in enumerate(COLOURS):
        (folder / "images" / f"{number}.png").write_bytes(png(colour))
        rows += [[words, "yes" if number else "no", number] for words in WORDS]
    asked = [Question((user(Part("image", media=(0,)), q),), (png(COLOURS[n]),)) for q, _, n in rows]
    said = [one_by_one(answerer, question) for question in asked]
    usable = [word.strip().rstrip(".").strip().casefold() for word in said]
    for row, word in list(zip(rows, usable, strict=True))[::2]:
        row[1] = word
    words = {row[1] for row in rows if row[1] and " " not in row[1]}
    (folder / "questions.json").write_text(json.dumps(rows))
    (folder / "answers.txt").write_text("\n".join({*words, "yes", "no"}), encoding="utf-8")
    (folder.parent / "easy_vqa").mkdir()
    turns = [{"from": "human", "value": f"<image>\n{WORDS[0]}"}, {"from": "gpt", "value": "yes"}]
    (folder.parent / "easy_vqa" / "train.jsonl").write_text(json.dumps({"conversations": turns}) + "\n")
    return tmp_path


def test_the_summary_is_what_the_predictions_say(benchmark: Path, asked: list[int]) -> None:
    recipe = Evaluation(checkpoint="model", tasks=["easy_vqa_test"], corpora=str(benchmark / "corpora"), batch_size=5)
    summary = evaluate(recipe, benchmark, lambda name, done, total: None)["easy_vqa_test"]
    out = benchmark / "eval" / "easy_vqa_test"
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["num_samples"] == len(rows) == 12
    assert sum(asked) == 12 + 3  # blank pictures are all alike: one prompt a question
    said = [row["said"].strip().rstrip(".").strip().casefold() for row in rows]
    correct = [word == row["answer"] for word, row in zip(said, rows, strict=True)]
    assert [row["correct"] for row in rows] == correct
    assert summary["accuracy"] == pytest.approx(np.mean(correct))
    assert summary["majority_baseline"] == pytest.approx(np.mean([row["answer"] == "yes" for row in rows]))


def test_a_missing_checkpoint_is_one_line_and_exit_code_two(tmp_path: Path) -> None:
    recipe = tmp_path / "eval.yaml"
    recipe.write_text("checkpoint: train/sft\ntasks: [easy_vqa_test]\n")
    result = CliRunner().invoke(app, ["run", str(recipe), "--data", str(tmp_path)])
    assert result.exit_code == 2
    assert "train/sft: neither a model folder nor a trained stage" in result.output
    recipe.write_text("checkpoint: train/sft\ntask: [easy_vqa_test]\n")
    result = CliRunner().invoke(app, ["run", str(recipe), "--data", str(tmp_path)])
    assert result.exit_code == 2
    assert "did you mean 'tasks'?" in result.output
