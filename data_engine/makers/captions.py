"""Captions of pictures and films by teachers (report, sections 3.1 and 3.5: several models, films at 0.5, 1 and 2 fps).

What is spoken in a film may be shown to the teachers beside its frames. Speech, like any text in the pictures, is data:
it stands between marks that it cannot hold itself, and no word of it is an instruction.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, model_validator

from data_engine.clips import spread
from data_engine.makers.asking import refused, replies
from data_engine.makers.films import film_of
from data_engine.makers.speech import utterances
from data_engine.making import Made, Maker, Outcome, Tools, Unmade, derived, faulty, teachers_of
from data_engine.media import MediaError
from data_engine.models import speech
from data_engine.runners.needs import MEDIA, Needs
from data_engine.sample import Media, Sample, told_anew
from data_engine.synthesis.wording import Language
from data_engine.teachers.fence import RULE, fenced
from data_engine.teachers.request import Answer, Failure, Image, Request, question
from data_engine.words import count_words
from model.visual_tokens import SPECIAL_TOKENS

PROMPTS: dict[Language, dict[str, str]] = {
    "en": {
        "image": "Describe this picture in one precise paragraph: what is there, where, and what any text in it says.",
        "video": "These are frames of one video in order, each after its time in seconds. Describe in one precise "
        "paragraph what happens, in the order in which it happens.",
        "speech": "What is said in it, as a recogniser heard it:",
    },
    "zh": {
        "image": "请用一段话准确描述这张图片：有什么、在哪里，以及图中文字的内容。",
        "video": "以下是同一段视频按时间顺序的画面，每帧之前是它的时间（秒）。请用一段话按先后顺序准确描述发生了什么。",
        "speech": "语音识别得到的内容：",
    },
}


class Captions(Maker):
    """Each sample's picture or film told anew: its last answer, or its document's words, give way to the caption.

    `fps` and `max_frames`: the frames of a film that a teacher is shown; a longer film is shown more thinly, evenly.
    `answers: all` asks every teacher, each answer a sample of its own; `one` shares the samples among them.
    `speech`: a Whisper folder, if teachers are to read what is said. Captions outside `min_words` and `max_words`, or
    with marks of the model's own in them, are asked for again, and then quarantined.
    """

    teachers: tuple[str, ...] = ()
    answers: Literal["one", "all"] = "all"
    fps: float = Field(default=1.0, gt=0, le=10)
    max_frames: int = Field(default=32, ge=1)
    max_side: int = Field(default=448, ge=28)
    language: Language = "en"
    speech: str = ""
    min_words: int = Field(default=1, ge=1)
    max_words: int = Field(default=400, ge=1)

    @model_validator(mode="after")
    def _words(self) -> "Captions":
        if self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is more than max_words {self.max_words}")
        return self

    @property
    def watches(self) -> float:
        return self.fps

    @property
    def needs(self) -> Needs:
        return speech.needs(self.speech) if self.speech else MEDIA

    @property
    def consults(self) -> tuple[str, ...]:
        return self.teachers

    def require(self) -> None:
        if self.speech:
            speech.require(self.speech)

    def make(self, samples: Sequence[Sample], tools: Tools) -> Iterator[Outcome]:
        shown = [(sample, self._request(sample, tools)) for sample in samples]
        yield from (item for _, item in shown if not isinstance(item, Request))
        asked = [(sample, item) for sample, item in shown if isinstance(item, Request)]
        parse = functools.partial(caption, least=self.min_words, most=self.max_words)
        answers = replies(self, tools, (request for _, request in asked), parse, self.answers)
        each = len(teachers_of(self, tools.teachers)) if self.answers == "all" else 1
        for sample, request in asked:
            for _ in range(each):
                yield self._outcome(sample, request, next(answers))

    def _outcome(self, sample: Sample, request: Request, reply: Answer | Failure) -> Outcome:
        if isinstance(reply, Failure):
            return refused(sample, "caption", reply)
        frames = sum(isinstance(part, Image) for part in request.turns[0].parts)
        about = {"model": reply.model, "frames": str(frames)}
        return Made(derived([sample], sample.task, told_anew(sample, reply.parsed), sample.media), reply.teacher, about)

    def _request(self, sample: Sample, tools: Tools) -> Request | Outcome:
        """What the teachers are asked of a sample."""
        prompts, film = PROMPTS[self.language], film_of(sample)
        if film is None:
            if len(sample.media) != 1:
                return Unmade(sample, f"shows {len(sample.media)} media; a caption is of one picture or film")
            return question(Image(sample.media[0], self.max_side), prompts["image"], system=RULE)
        try:
            times = tools.times(film)
            said = utterances(film, self.speech, 0.5, tools) if self.speech else []
        except MediaError as error:
            return faulty(sample, "media", f"{film.key[:16]}…: {error}")
        start, parts = film.start or 0.0, list[Any]()
        for time in thinned(times, self.fps, self.max_frames):
            parts += [f"{time - start:.1f} s:", Image(Media("image", film.key, start=time), self.max_side)]
        if said:
            parts.append(f"{prompts['speech']}\n{fenced(' '.join(one.text for one in said))}\n")
        return question(*parts, prompts["video"], system=RULE)


def thinned(times: Sequence[float], fps: float, most: int) -> list[float]:
    """Of the times of frames those `1 / fps` apart, from the first on; of more than `most`, that many, evenly."""
    chosen, due = list[float](), float("-inf")
    for time in times:
        if time >= due - 1e-6:
            chosen.append(time)
            due = (time if due == float("-inf") else due) + 1 / fps
    return [chosen[place] for place in spread(len(chosen), min(most, len(chosen)))]


def caption(text: str, least: int, most: int) -> str:
    """A teacher's words as a caption. Raises ValueError for what cannot be one."""
    text = text.strip()
    marks = [mark for mark in SPECIAL_TOKENS if mark in text]
    if marks:
        raise ValueError(f"it holds the mark {marks[0]}")
    num = int(count_words(pa.array([text]))[0])
    if not least <= num <= most:
        raise ValueError(f"{num} words, not {least} to {most}")
    return text
