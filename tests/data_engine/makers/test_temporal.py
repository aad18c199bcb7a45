"""When and why: every time of an answer is an event's own, whoever words the question."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from data_engine import grounding
from data_engine.grounding import Clip
from data_engine.makers.temporal import TemporalQuestions, a_question, in_windows, without_repetitions, word_pairs
from data_engine.making import Made, Outcome, Tools, Unmade
from data_engine.sample import Media, Part, Sample, document, text_part
from data_engine.sample import Message as Turn
from data_engine.sources.common import Quarantined
from data_engine.teachers.recipe import Teacher
from model.visual_tokens import CONTROL_TOKENS
from tests.data_engine.language_models import smollm2
from tests.data_engine.teachers.server import CountingServer

WORDS = (
    "A rabbit comes out of its hole and stretches.",
    "Three rodents throw an apple at a butterfly.",
    "The rabbit picks up a stick and sets a trap.",
    "The rabbit takes up a stick and sets a trap.",  # says the same again
    "The squirrel falls from the tree into the river.",
)
SPANS = ((10.0, 14.5), (14.5, 21.25), (21.25, 30.0), (30.0, 36.0), (36.0, 44.0))


def event(place: int, key: str = "a" * 64) -> Sample:
    start, end = SPANS[place]
    shown = Turn("document", (Part("video", media=(0,)), text_part(WORDS[place])))
    return Sample("films", "video", "event", (shown,), (Media("video", key, start, end),), origin=f"film#{place}")


def made(found: Sequence[Outcome]) -> list[Sample]:
    return [item.sample for item in found if isinstance(item, Made)]


@pytest.fixture
def server() -> Iterator[CountingServer]:
    started = CountingServer()
    yield started
    started.close()


def test_a_list_is_the_events_with_the_times_of_the_window_that_is_shown(tmp_path: Path) -> None:
    events = [*map(event, range(5)), event(0, "b" * 64)]
    found = list(TemporalQuestions(kinds=("list",)).make(events, Tools(tmp_path)))
    (listed,) = made(found)  # the other film has one event only
    assert listed.media == (Media("video", "a" * 64, 10.0, 44.0),)
    shapes, faults = grounding.parse(listed.messages[1].text)
    assert not faults and shapes == [
        Clip(round(start - 10, 1), round(end - 10, 1), words)
        for place, ((start, end), words) in enumerate(zip(SPANS, WORDS, strict=True))
        if place != 3
    ]
    assert listed.parents == tuple(events[place].id for place in (0, 1, 2, 4))
    (repeated,) = [item for item in found if isinstance(item, Unmade)]
    assert repeated.sample == events[3] and "repeats" in repeated.reason


def test_of_several_teachers_captions_of_an_event_one_counts(tmp_path: Path) -> None:
    events = [event(place) for place in (0, 1, 2)]
    others = [replace(one, messages=(Turn("document", (Part("video", media=(0,)), text_part(f"Take {n}."))),), id="")
              for n, one in enumerate(events)]  # fmt: skip
    both = [one for pair in zip(events, others, strict=True) for one in pair]
    found = list(TemporalQuestions(kinds=("list",)).make(both, Tools(tmp_path)))
    (listed,) = made(found)
    assert [shape.caption for shape in grounding.parse(listed.messages[1].text)[0]] == list(WORDS[:3])  # type: ignore[union-attr]
    assert [item.sample for item in found if isinstance(item, Unmade)] == others


def test_windows_hold_whole_events_and_no_more_seconds_than_asked() -> None:
    events = list(map(event, range(5)))
    for most in (1.0, 12.0, 20.0, 100.0):
        windows = in_windows(events, most)
        assert [one.sample for window in windows for one in window] == events
        for window in windows:
            assert window[0].start == 0 and (len(window) == 1 or window[-1].end <= most)
        for one, two in pairwise(windows):  # the next event did not fit
            first = one[0].sample.media[0].start
            assert two[0].sample.media[0].end - first > most  # type: ignore[operator]


def test_what_says_the_same_is_found_in_both_languages() -> None:
    assert without_repetitions(list(map(event, range(5))), 0.6) == [event(place) for place in (0, 1, 2, 4)]
    assert without_repetitions(list(map(event, range(5))), 1.0) == list(map(event, range(5)))
    assert word_pairs("兔子走出洞口。") == {("兔", "子"), ("子", "走"), ("走", "出"), ("出", "洞"), ("洞", "口")}
    assert word_pairs("Rabbit!") == {("rabbit",)} and word_pairs(" . ") == frozenset()


def test_only_captioned_spans_of_films_are_events(tmp_path: Path) -> None:
    whole = Sample("films", "video", "film", event(0).messages, (Media("video", "c" * 64),))
    silent = Sample("films", "video", "film", (Turn("document", (Part("video", media=(0,)),)),), event(0).media)
    plain = Sample("films", "text", "text", (document("words"),))
    found = list(TemporalQuestions(kinds=("list",)).make([whole, silent, plain], Tools(tmp_path)))
    assert [type(item) for item in found] == [Unmade] * 3


@pytest.mark.parametrize(
    "text", ["No question.", "At 12 s?", "Who <|im_end|> is?", "", "What " * 61 + "?", "?"], ids=range(6)
)
def test_what_is_no_question_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"question|number|mark|words"):
        a_question(text)


def test_the_last_line_of_a_reply_is_the_question() -> None:
    assert a_question("Sure! Here is one:\nWhen does the rabbit stretch?\n") == "When does the rabbit stretch?"
    assert a_question("兔子什么时候伸懒腰？") == "兔子什么时候伸懒腰？"


def test_replies_that_are_no_question_leave_no_sample(server: CountingServer, tmp_path: Path) -> None:
    """This server turns words round: it answers no question with one, and neither yes nor no."""
    teacher = Teacher(name="t", url=server.url, model="m", attempts=2, back_off=0)
    found = list(TemporalQuestions().make([event(0), event(1)], Tools(tmp_path, tmp_path, teachers=(teacher,))))
    assert [sample.task for sample in made(found)] == ["temporal_list"]
    refused = [item for item in found if isinstance(item, Quarantined)]
    assert [item.field for item in refused] == ["temporal_when", "temporal_when", "temporal_why"]
    assert len(server.bodies) == 6 and all("END OF DATA" in str(body) for body in server.bodies)


def test_a_real_model_words_questions_and_times_stay_true(tmp_path: Path) -> None:
    teacher = Teacher(name="smollm2", folder=smollm2(), max_tokens=30, attempts=3)
    tools = Tools(tmp_path, tmp_path, teachers=(teacher,))
    events = [event(0), event(1)]
    found = list(TemporalQuestions(kinds=("when", "why")).make(events, tools))
    asked = [item for item in found if isinstance(item, Made)]
    refused = [item for item in found if isinstance(item, Quarantined)]
    assert len(asked) + len(refused) in (2, 3) and asked
    truth = {(round(s - 10, 1), round(e - 10, 1)): words for (s, e), words in zip(SPANS, WORDS, strict=True)}
    for item in asked:
        assert item.teacher == "smollm2" and item.sample.task in {"temporal_when", "temporal_why"}
        question, answer = item.sample.messages
        assert question.parts[-1].text and question.parts[-1].text.endswith("?")
        assert not any(mark in item.sample.text for mark in CONTROL_TOKENS)
        shapes, faults = grounding.parse(answer.text)
        assert not faults and len(shapes) == (2 if item.sample.task == "temporal_why" else 1)
        for clip in shapes:
            assert isinstance(clip, Clip) and truth[clip.start, clip.end] == clip.caption
    assert list(TemporalQuestions(kinds=("when", "why")).make(events, tools)) == found  # from the cache, the same
