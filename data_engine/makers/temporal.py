"""When and why, in films: questions on events that have captions (report, section 3.3, temporal grounding, step 3).

The samples of one film are its events, each a span with a caption (`segments`, then `captions`). What a question asks
and how it is worded may come from a teacher; every time in an answer is an event's own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, Literal

from pydantic import Field

from data_engine.grounding import Clip
from data_engine.makers.asking import refused, replies
from data_engine.makers.captions import caption
from data_engine.makers.films import film_of
from data_engine.makers.segments import timeline
from data_engine.making import Made, Maker, Outcome, Tools, Unmade, derived
from data_engine.sample import Media, Message, Part, Sample, assistant, user
from data_engine.synthesis.wording import Language
from data_engine.teachers.fence import RULE, fenced
from data_engine.teachers.request import Answer, Failure, Request, question
from data_engine.words import folded_text

LIST: dict[Language, str] = {
    "en": "List what happens in this video, each event with its time.",
    "zh": "请列出视频中发生的事件，并标明每个事件的时间。",
}
WHEN: dict[Language, str] = {
    "en": "An event of a video is described below. Write one question that asks at which time of the video it happens. "
    "Do not give the time away. Write the question only.\n",
    "zh": "下面描述了视频中的一个事件。请写一个问题，询问它发生在视频的什么时间。不要透露时间，只写问题。\n",
}
BRINGS_ABOUT: dict[Language, str] = {
    "en": "Two events of a video follow one another. Did the first bring about the second? Answer yes or no.\n",
    "zh": "视频中的两个事件先后发生。前一个事件是否导致了后一个事件？请回答“是”或“否”。\n",
}
YES_NO: dict[Language, tuple[str, str]] = {"en": ("yes", "no"), "zh": ("是", "否")}
WHY: dict[Language, str] = {
    "en": "The first of these two events of a video brought about the second. Write one question that asks why the "
    "second happened. Write the question only.\n",
    "zh": "视频中的第一个事件导致了第二个事件。请写一个问题，询问第二个事件为什么会发生。只写问题。\n",
}
BECAUSE: dict[Language, str] = {"en": "Because of what happened before:", "zh": "因为之前发生了："}
ENDS = ("?", "？")

Kind = Literal["list", "when", "why"]


@dataclass(frozen=True, slots=True)
class Event:
    """A sample, its span in seconds of the window that is shown, and its caption."""

    sample: Sample
    start: float
    end: float
    words: str


class TemporalQuestions(Maker):
    """Of the events of a film: a list with times, and questions on when and why, answered with times.

    `kinds`: which are made; `list` needs no teacher. Films longer than `max_seconds` are shown in windows of whole
    events. Of several captions of an event the first counts. An event whose caption shares more than `max_similarity`
    of its words with an earlier one of the film (Jaccard, of pairs of words) repeats it, and is left out: captioners
    get stuck.
    """

    teachers: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ("list", "when", "why")
    language: Language = "en"
    max_seconds: float = Field(default=120.0, gt=0)
    max_similarity: float = Field(default=0.6, gt=0, le=1)

    @property
    def consults(self) -> tuple[str, ...] | None:
        return self.teachers if {"when", "why"} & set(self.kinds) else None

    def make(self, samples: Sequence[Sample], tools: Tools) -> Iterator[Outcome]:
        windows: list[list[Event]] = []
        for key, found in groupby(samples, key=_film_key):
            events = list(found)
            if key is None:
                yield from (Unmade(sample, "no captioned span of a film") for sample in events)
                continue
            told = once_each(events)
            yield from (Unmade(one, "another caption of an event that has one") for one in events if one not in told)
            events = told
            fresh = without_repetitions(events, self.max_similarity)
            yield from (Unmade(one, "repeats an earlier event of its film") for one in events if one not in fresh)
            windows += in_windows(fresh, self.max_seconds)
        if "list" in self.kinds:
            yield from (Made(self._listed(events)) for events in windows if len(events) > 1)
        if "when" in self.kinds:
            yield from self._when(windows, tools)
        if "why" in self.kinds:
            yield from self._why(windows, tools)

    def _listed(self, events: Sequence[Event]) -> Sample:
        return _about(events, LIST[self.language], "\n".join(map(_told, events)), "temporal_list")

    def _when(self, windows: Sequence[Sequence[Event]], tools: Tools) -> Iterator[Outcome]:
        single = [(window, event) for window in windows for event in window]
        requests = [question(WHEN[self.language], fenced(event.words), system=RULE) for _, event in single]
        found = list(zip(single, replies(self, tools, requests, a_question), strict=True))
        yield from _outcomes(
            [(window, event, reply, _told(event)) for (window, event), reply in found], "temporal_when"
        )

    def _why(self, windows: Sequence[Sequence[Event]], tools: Tools) -> Iterator[Outcome]:
        """First whether an event brought about the next, a choice of two words; then the question."""
        yes, no = YES_NO[self.language]
        pairs = [(window, pair) for window in windows for pair in pairwise(window)]
        judging = [self._of_two(BRINGS_ABOUT, pair, choices=(yes, no)) for _, pair in pairs]
        caused = []
        for (window, pair), reply in zip(pairs, replies(self, tools, judging), strict=True):
            if isinstance(reply, Failure):
                yield refused(pair[1].sample, "temporal_why", reply)
            elif reply.text == yes:
                caused.append((window, pair))
        requests = [self._of_two(WHY, pair) for _, pair in caused]
        asked = []
        for (window, pair), reply in zip(caused, replies(self, tools, requests, a_question), strict=True):
            asked.append((window, pair[1], reply, "\n".join([BECAUSE[self.language], *map(_told, pair)])))
        yield from _outcomes(asked, "temporal_why")

    def _of_two(self, prompt: Mapping[Language, str], pair: tuple[Event, Event], **settings: Any) -> Request:
        return question(prompt[self.language], *(fenced(one.words) for one in pair), system=RULE, **settings)


def _told(event: Event) -> str:
    return timeline([Clip(event.start, event.end, event.words)]).strip()


def _outcomes(asked: Sequence[tuple[Sequence[Event], Event, Answer | Failure, str]], task: str) -> Iterator[Outcome]:
    """A sample for each question (window, event, reply, answer); none where two of a window are the same question."""
    worded = [(id(window), _folded(reply)) for window, _, reply, _ in asked]
    for (window, event, reply, answer), question_ in zip(asked, worded, strict=True):
        if isinstance(reply, Failure):
            yield refused(event.sample, task, reply)
        elif worded.count(question_) > 1:
            yield Unmade(event.sample, "its question is asked of another event too")
        else:
            yield Made(_about(window, reply.parsed, answer, task), reply.teacher, {"model": reply.model})


def _folded(reply: Answer | Failure) -> str:
    return folded_text(reply.parsed).casefold() if isinstance(reply, Answer) else ""


def _film_key(sample: Sample) -> str | None:
    film = film_of(sample)
    spanned = film is not None and film.start is not None and film.end is not None
    return film.key if film and spanned and sample.text.strip() else None


def once_each(events: Sequence[Sample]) -> list[Sample]:
    """Of the captions of one span, as several teachers give them, the first."""
    first: dict[tuple[float | None, float | None], Sample] = {}
    for sample in events:
        first.setdefault((sample.media[0].start, sample.media[0].end), sample)
    return list(first.values())


def without_repetitions(events: Sequence[Sample], most: float) -> list[Sample]:
    """The events, without those whose caption says what an earlier one's says."""
    kept: list[tuple[Sample, frozenset[tuple[str, ...]]]] = []
    for sample in events:
        pairs = word_pairs(sample.text)
        if all(len(pairs & other) <= most * len(pairs | other) for _, other in kept):
            kept.append((sample, pairs))
    return [sample for sample, _ in kept]


def word_pairs(text: str) -> frozenset[tuple[str, ...]]:
    """Pairs of neighbouring words, of Chinese of neighbouring characters, and the single word of a one-word text."""
    words = [word for part in folded_text(text).lower().split() for word in _words(part)]
    return frozenset(pairwise(words)) or frozenset((word,) for word in words)


def _words(part: str) -> list[str]:
    cleaned = "".join(letter for letter in part if letter.isalnum())
    return list(cleaned) if any("\u4e00" <= letter <= "\u9fff" for letter in cleaned) else [cleaned] if cleaned else []


def in_windows(events: Sequence[Sample], most: float) -> list[list[Event]]:
    """Events that follow on one another, in windows of at most `most` seconds; times count from the window's start."""
    windows: list[list[Event]] = []
    begin = float("-inf")
    for sample in events:
        film = sample.media[0]
        assert film.start is not None and film.end is not None
        if film.end - begin > most:
            windows.append([])
            begin = film.start
        windows[-1].append(Event(sample, film.start - begin, film.end - begin, " ".join(sample.text.split())))
    return windows


def _about(events: Sequence[Event], asked: str, answer: str, task: str) -> Sample:
    """A question about the window that the events fill."""
    first, last = events[0].sample.media[0], events[-1].sample.media[0]
    window = Media("video", first.key, start=first.start, end=last.end)
    messages: list[Message] = [user(Part("video", media=(0,)), asked), assistant(answer)]
    return derived([one.sample for one in events], task, messages, [window])


def a_question(text: str) -> str:
    """The last line of a reply that is a question, without a number in it. Raises ValueError where there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip().endswith(ENDS)]
    if not lines:
        raise ValueError("it is no question")
    words = caption(lines[-1], 2, 60)
    if any(letter.isdigit() for letter in words):
        raise ValueError("it gives a number away")
    return words
