"""Talking to a saved model from the terminal: once, in turns, with pictures, and with wrong input."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from model.chat import Chat, ChatError, load
from model.cli import app
from model.modeling import KeyeForConditionalGeneration
from model.processing import KeyeProcessor
from model.video_file import read_video
from model.visual_tokens import VisualBudget
from tests.model.test_cli import cut, write  # noqa: F401  (`cut` is a fixture)

RUN = CliRunner()


@pytest.fixture
def saved(model: KeyeForConditionalGeneration, processor: KeyeProcessor, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def png(picture: np.ndarray, tmp_path: Path) -> Path:
    Image.fromarray(picture).save(tmp_path / "shape.png")
    return tmp_path / "shape.png"


def expected(model: KeyeForConditionalGeneration, processor: KeyeProcessor, picture: np.ndarray, question: str) -> str:
    """The same question the plain way."""
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    tensors = processor.batch([processor.encode(messages, [picture], labels=False, generation_prompt=True)])
    del tensors["labels"]
    with torch.no_grad():
        out = model.generate(**tensors, max_new_tokens=6, do_sample=False)[0, tensors["input_ids"].shape[1] :]
    return processor.tokenizer.decode(out, skip_special_tokens=True)


def test_one_question_about_a_picture(
    saved: Path, png: Path, model: KeyeForConditionalGeneration, processor: KeyeProcessor, picture: np.ndarray
) -> None:
    arguments = ["chat", "--model", str(saved), "--image", str(png), "--max-new-tokens", "6", "What?"]
    result = RUN.invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.rstrip("\n") == expected(model, processor, picture, "What?").rstrip("\n")


def test_turns_through_a_pipe(saved: Path, png: Path) -> None:
    """A wrong file in between costs one line and no turn; `/new` forgets."""
    lines = [
        f"/image {png}",
        "What?",
        "/image none.png",
        "Is it blue?/no_think",
        "/new",
        "/imag x",
        "Is it red?",
        "/exit",
        "no",
    ]
    arguments = ["chat", "--model", str(saved), "--max-new-tokens", "3"]
    result = RUN.invoke(app, arguments, input="\n".join(lines))
    assert result.exit_code == 0
    assert result.stderr.splitlines()[-2] == "none.png: not an image that can be read"
    assert result.stderr.splitlines()[-1].startswith("/imag: no such command; there are /image FILE")


def test_later_turns_see_the_picture_and_answers_without_thoughts(saved: Path, png: Path) -> None:
    chat = Chat(*load(saved), max_new_tokens=3)
    chat.show_image(png)
    first = chat.ask("What?")
    chat.ask("Is it blue?")
    roles = [message["role"] for message in chat.messages]
    assert roles == ["user", "assistant"] * 2
    assert [part["type"] for part in chat.messages[0]["content"]] == ["image", "text"]
    assert [part["type"] for part in chat.messages[2]["content"]] == ["text"]
    assert chat.messages[1]["content"] == first.answer
    chat.forget()
    assert not chat.messages and not chat.images


def test_a_refused_question_is_forgotten(saved: Path) -> None:
    chat = Chat(*load(saved), max_new_tokens=3)
    with pytest.raises(ValueError, match="control token"):
        chat.ask("a<|image_pad|>")
    assert not chat.messages
    assert chat.ask("What?") is not None


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg on PATH")
def test_a_video_is_read_as_planned(saved: Path, cut: Path) -> None:  # noqa: F811
    """Slow at the start and at the cut; frames no larger than the plan's slow size; and the model can be asked."""
    chat = Chat(*load(saved), max_new_tokens=2)
    chat.show_video(cut)
    video = chat.videos[0]
    assert video.is_slow == [True, False, False, False, True, False, False, False]
    assert video.times == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5] and (video.height, video.width) == (240, 320)
    budget = VisualBudget(**chat.processor.budget)
    assert len({frame.shape for frame in read_video(cut, budget).frames}) == 1
    assert chat.ask("The order of the frames?") is not None


def test_bad_input_is_one_line(saved: Path, tmp_path: Path) -> None:
    step = tmp_path / "stage/checkpoints/step-0000009/model"
    step.mkdir(parents=True)
    with pytest.raises(ChatError, match=r"no config\.json.* did you mean .*step-0000009/model\?"):
        load(tmp_path / "stage")
    for arguments, reason in (
        (["--model", str(tmp_path / "gone"), "hm"], "no config.json"),
        (["--model", str(saved), "--image", "none.png", "hm"], "none.png: not an image"),
        (["--model", str(saved), "--video", "none.mp4", "hm"], "none.mp4: no such file"),
        (["--model", str(saved), "--thinking", "hard", "hm"], "--thinking hard: must be auto, think, no_think"),
    ):
        result = RUN.invoke(app, ["chat", *arguments])
        assert result.exit_code == 2
        assert reason in result.stderr.splitlines()[-1]
