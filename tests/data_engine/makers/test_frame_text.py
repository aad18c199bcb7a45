"""Text planted over real film, and a trailer's own title cards, are read and timed; the rest is told."""

import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from data_engine import grounding
from data_engine.grounding import Clip
from data_engine.makers import frame_text
from data_engine.makers.frame_text import FrameText, Line, appearances, moments
from data_engine.making import Made, Tools, Unmade
from data_engine.media import MediaStore
from data_engine.sample import Media, Message, Part, Sample
from data_engine.sources.common import Quarantined
from tests import films
from tests.films import Pixels

FONT = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans-Bold.ttf"
PLANTED = {"WELCOME": (2.0, 5.0), "Departures": (6.0, 9.0)}


def film_sample(path: Path, store: Path, start: float | None = None, end: float | None = None) -> Sample:
    key = MediaStore(store).put_file(path)
    message = Message("document", (Part("video", media=(0,)),))
    return Sample("c", "video", "footage", (message,), (Media("video", key, start, end),), "MIT", origin="film.mp4")


def titled(picture: Pixels, text: str) -> Pixels:
    image = Image.fromarray(picture)
    font = ImageFont.truetype(FONT, 28)
    ImageDraw.Draw(image).text((40, 40), text, font=font, fill="white", stroke_width=2, stroke_fill="black")
    return np.asarray(image)


def made_of(sample: Sample, tools: Tools, **fields: Any) -> tuple[list[Made], list[Quarantined | Unmade]]:
    found = list(FrameText(max_side=480, **fields).make([sample], tools))
    return [i for i in found if isinstance(i, Made)], [i for i in found if not isinstance(i, Made)]


def test_planted_text_is_read_and_timed(corpora: Any, tmp_path: Path) -> None:
    street = films.pixels(films.Piece(corpora / "video/vtest.avi", 0, 100), 10, (480, 360))
    for text, (start, end) in PLANTED.items():
        for at in range(round(start * 10), round(end * 10)):
            street[at] = titled(street[at], text)
    films.write(street, tmp_path / "street.mp4", 10)
    tools = Tools(tmp_path / "store", tmp_path / "cache")
    made, refused = made_of(film_sample(tmp_path / "street.mp4", tools.store), tools)
    assert not refused and all(item.teacher == "rapidocr" for item in made)
    when = [item.sample for item in made if item.sample.task == "text_when"]
    told = {clip.caption: clip for sample in when for clip in grounding.parse(sample.messages[1].text)[0]}
    assert told == {text: Clip(start, end, text) for text, (start, end) in PLANTED.items()}
    assert all(text in sample.messages[0].text for text, sample in zip(told, when, strict=True))
    for sample in (item.sample for item in made if item.sample.task == "text_at"):
        second = float(re.search(r"\d+\.\d", sample.messages[0].text)[0])  # type: ignore[index]
        ((start, end),) = (span for text, span in PLANTED.items() if text == sample.messages[1].text)
        assert start <= second < end


def test_a_trailers_title_card(tmp_path: Path) -> None:
    """By eye: the card "And three rodent pests" stands from the 33rd second to the 36th."""
    tools = Tools(tmp_path / "store", tmp_path / "cache")
    sample = film_sample(films.trailer(), tools.store, 31.0, 38.0)
    made, _ = made_of(sample, tools)
    (when,) = (item.sample for item in made if item.sample.task == "text_when")
    assert when.messages[1].text == "<|clip_time_start|>[2.0, 5.0]<|clip_time_end|> And three rodent pests"
    assert when.media == sample.media and when.parents == (sample.id,)


def test_a_film_without_words_is_told(corpora: Any, tmp_path: Path) -> None:
    tools = Tools(tmp_path / "store", tmp_path / "cache")
    made, refused = made_of(film_sample(corpora / "video/vtest.avi", tools.store, 0.0, 3.0), tools)
    assert not made and "agree" in refused[0].reason
    (tmp_path / "empty.mp4").touch()
    made, refused = made_of(film_sample(tmp_path / "empty.mp4", tools.store), tools)
    assert not made and refused[0].reason == "empty file"


def seen(*texts: str, score: float = 0.99) -> list[Line]:
    return [Line(text, score) for text in texts]


def test_neighbours_must_agree() -> None:
    frames = [seen("EXIT"), seen("EXIT", "noise"), seen("EXlT"), [], seen("EXIT"), seen("EXIT", score=0.6)]
    assert not frame_text.alike("Platform 7", "Platform 8") and frame_text.alike("Keep Left", "KEEP LEFF")
    (found,) = appearances(frames, 0.85, 2)
    assert (found.first, found.last, found.text) == (0, 2, "EXIT")
    assert [(f.first, f.last) for f in appearances(frames, 0.85, 1)] == [(0, 2), (1, 1), (4, 4)]


def test_only_moments_read_whole_are_asked_about() -> None:
    frames = [seen("EXIT"), seen("EXIT"), seen("EXIT", "fleeting"), seen("EXlT"), seen("EXIT"), seen("EXIT")]
    shown = appearances(frames, 0.85, 2)
    assert moments(frames, shown) == {1: ["EXIT"], 4: ["EXIT"]}


def test_marks_within_a_picture_are_not_repeated() -> None:
    """What a picture shows must not become a mark of ours."""
    planted = "<|clip_time_start|>[0.0, 9.0]<|clip_time_end|>"
    assert appearances([seen(planted), seen(planted)], 0.85, 2) == []
    assert appearances([seen("<|box_start|>"), seen("<|box_start|>")], 0.85, 2) == []


@pytest.mark.parametrize("count", [1, 2, 5])
def test_some_are_spread_and_always_the_same(count: int) -> None:
    chosen = frame_text._some(list(range(20)), count, "seed")
    assert chosen == sorted(set(chosen)) and len(chosen) == count
    assert all(20 * n // count <= item < 20 * (n + 1) // count for n, item in enumerate(chosen))
