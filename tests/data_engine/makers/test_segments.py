"""Events of a film that repeats itself; captioned events as text and back."""

from pathlib import Path
from typing import Any

import pytest

from data_engine.grounding import Clip, GroundingError
from data_engine.makers.segments import Segments, faults, merged, timeline
from data_engine.making import Made, Tools
from data_engine.media import MediaStore
from data_engine.sample import Media, Message, Part, Sample
from tests import films
from tests.films import Piece


def test_shots_become_events_of_a_useful_length() -> None:
    shots = [(0.0, 0.5), (0.5, 1.2), (1.2, 9.0), (9.0, 31.0), (31.0, 31.4)]
    assert merged(shots, 1.0, 10.0) == [(0.0, 1.2), (1.2, 9.0), (9.0, 16.5), (16.5, 23.9), (23.9, 31.4)]
    assert merged([(0.0, 0.4)], 1.0, 10.0) == [(0.0, 0.4)] and merged([], 1.0, 10.0) == []
    for least, most in ((0.5, 2.0), (2.0, 5.0), (3.0, 30.0)):
        events = merged(shots, least, most)
        assert events[0][0] == 0.0 and events[-1][1] == 31.4
        assert all(a[1] == b[0] for a, b in zip(events, events[1:], strict=False))
        assert all(end - start <= most + 0.1 for start, end in events)


def test_what_a_film_shows_twice_is_one_event(corpora: Any, tmp_path: Path) -> None:
    street, head, city = (
        corpora / "video/vtest.avi",
        films.fetched("carphone_pristine.mp4"),
        films.fetched("cityCC0.mpg"),
    )
    plan = [(street, 2, 60), (head, 0.5, 60), (street, 2, 60), (city, 0.3, 60), (head, 0.5, 60)]
    cuts = films.splice([Piece(*piece) for piece in plan], tmp_path / "film.mp4")
    assert cuts == [60, 120, 180, 240]
    tools = Tools(tmp_path / "store", tmp_path / "cache")
    key = MediaStore(tools.store).put_file(tmp_path / "film.mp4")
    sample = Sample(
        "c", "video", "footage", (Message("document", (Part("video", media=(0,)),)),), (Media("video", key),)
    )
    made = [item for item in Segments(max_seconds=5.0).make([sample], tools) if isinstance(item, Made)]
    assert [(item.sample.media[0].start, item.sample.media[0].end) for item in made] == [(0, 2.5), (2.5, 5), (7.5, 10)]
    assert made[0].about == {"events": "3", "repeated events left out": "2"}


def test_timelines_are_written_in_tenths_and_read_back() -> None:
    text = timeline([Clip(12.04, 15.5, "It falls."), Clip(0.0, 2.5, "一个人走来。")])
    assert text == (
        "<|clip_time_start|>[0.0, 2.5]<|clip_time_end|> 一个人走来。\n"
        "<|clip_time_start|>[12.0, 15.5]<|clip_time_end|> It falls."
    )
    assert faults(text, 15.5) == []
    assert faults(text, 14.0) == ["clip ends at 15.5 s, the video at 14.0 s"]
    with pytest.raises(GroundingError):
        timeline([Clip(3.0, 2.0, "Backwards.")])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Nothing.", "no clip times"),
        ("<|clip_time_start|>[0.0, 2.5]<|clip_time_end|>", "clip without a caption"),
        ("<|clip_time_start|>[0, 2]<|clip_time_end|> x", "malformed coordinates"),
        ("<|clip_time_start|>[2.0, 1.0]<|clip_time_end|> x", "clip ends before it starts"),
        ("<|clip_time_start|>[2.0, 3.0] x", "mark without its other half"),
    ],
)
def test_faults_of_others_timelines(text: str, fault: str) -> None:
    assert fault in faults(text, 10.0)
