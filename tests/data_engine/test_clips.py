"""Spans of a real video that are longer than a model may see: thinned out evenly, in counting as in shards."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from data_engine import clips, shards, tokens
from data_engine.probe import probe_video
from data_engine.recipe import Frames
from data_engine.sample import Media, Part, Sample, assistant, user
from model.processing import KeyeProcessor, Video
from model.tokenizer import train_bpe
from model.visual_tokens import VisualBudget, floor_fits, visual_budget
from tests import films

KEY = "street"


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The frames of 79.5 seconds of a street, two a second: 159."""
    folder = tmp_path_factory.mktemp("frames")
    probe_video(films.street(), KEY, folder, Frames(fps=2.0, max_side=128))
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder = tmp_path_factory.mktemp("tokenizer")
    trained = train_bpe(["What is in the video? People walk. 0.5 1.0 12.5"], 300, folder / "work")
    trained.save_pretrained(folder)
    return trained


@pytest.mark.parametrize(("num", "count"), [(159, 48), (10, 10), (7, 3), (5, 1), (1, 1)])
def test_places_are_even_and_begin_at_the_first(num: int, count: int) -> None:
    places = clips.spread(num, count)
    assert places[0] == 0 and len(places) == count and places[-1] < num
    assert (
        max((b - a for a, b in pairwise(places)), default=0) - min((b - a for a, b in pairwise(places)), default=0) <= 1
    )


def test_a_long_span_keeps_the_times_of_its_frames(frames: Path) -> None:
    budget = visual_budget("tiny")
    long = clips.build([Media("video", KEY)], frames, fps=2.0, budget=budget)
    assert len(long.frames) == budget.max_frames == 48 and long.times[0] == 0 and 77 < long.times[-1] < 79.5
    every = clips.span(frames, Media("video", KEY))
    assert long.frames == [every[round(2 * time)] for time in long.times]
    short = clips.build([Media("video", KEY, 10.0, 20.0)], frames, fps=2.0, budget=budget)
    assert short.times == [index / 2 for index in range(20)]


def test_a_span_too_long_for_the_floor_is_thinned_until_it_fits(frames: Path) -> None:
    budget = VisualBudget(video_total_tokens=150, frame_min_tokens=12, frame_max_tokens=16)
    clip = clips.build([Media("video", KEY)], frames, fps=2.0, budget=budget)
    assert 3 <= len(clip.frames) <= 40
    assert floor_fits(clip.is_slow, clip.height, clip.width, budget)


def test_counting_shards_and_processor_agree(frames: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    tokenizer.save_pretrained(folder)
    sample = Sample(
        "c", "video", "qa", (user(Part("video", media=(0,)), "What is in the video?"), assistant("People walk.")),
        (Media("video", KEY),),
    )  # fmt: skip
    counted = tokens.count(sample, tokens.Counter("tiny", folder, frames, 2.0, 448), {})
    layout = shards.Layout(store=tmp_path, frames=frames, fps=2.0, max_side=448, preset="tiny")
    written = shards.members(sample, counted["tokens"], layout)
    shown = json.loads(written[0][1])["shown"][0]
    assert len(written) - 1 == len(shown["times"]) == counted["slow_frames"] + counted["fast_frames"] == 48
    pixels = [clips._decode(data) for _, data in written[1:]]
    video = Video(pixels, shown["times"], shown["is_slow"], shown["height"], shown["width"])
    asked = [
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What is in the video?"}]},
        {"role": "assistant", "content": "People walk."},
    ]
    assert len(KeyeProcessor(tokenizer, visual_budget("tiny")).encode(asked, videos=[video])) == counted["tokens"]
