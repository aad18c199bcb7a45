"""Films whose speech is written between the frames it was spoken over (report, section 3.5: interleaved video-ASR)."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from pydantic import Field

from data_engine.makers.films import film_of
from data_engine.making import Made, Maker, Outcome, Tools, Unmade, derived, faulty
from data_engine.media import MediaError, MediaStore
from data_engine.models import speech
from data_engine.models.speech import Utterance
from data_engine.runners.needs import Needs
from data_engine.sample import Media, Message, Part, Sample, text_part
from model.visual_tokens import CONTROL_TOKENS


class InterleavedSpeech(Maker):
    """A film as a document: the pictures up to an utterance's end, its words, the next pictures, and so on.

    `model`: a Whisper folder in CTranslate2's form. Utterances below `min_confidence` (mean probability of their words)
    are not written. Pictures and words alternate every `min_seconds` at least: a frame of the recipe's `frames`.
    """

    model: str
    min_confidence: float = Field(default=0.5, ge=0, le=1)
    min_seconds: float = Field(default=2.0, gt=0)

    def require(self) -> None:
        speech.require(self.model)

    @property
    def needs(self) -> Needs:
        return speech.needs(self.model)

    def make(self, samples: Sequence[Sample], tools: Tools) -> Iterator[Outcome]:
        return (self._made(sample, tools) for sample in samples)

    def _made(self, sample: Sample, tools: Tools) -> Outcome:
        film = film_of(sample)
        if film is None:
            return Unmade(sample, "shows no single video")
        try:
            said = utterances(film, self.model, self.min_confidence, tools)
        except MediaError as error:
            return faulty(sample, "media", f"{film.key[:16]}…: {error}")
        if not said:
            return Unmade(sample, "no speech in it")
        spans = alternating(said, film, self.min_seconds)
        parts: list[Part] = []
        for place, (_, words) in enumerate(spans):
            parts += [Part("video", media=(place,)), text_part(words)]
        media = [span for span, _ in spans]
        told = {"utterances": str(len(said)), "confidence": f"{min(one.confidence for one in said):.2f}"}
        message = Message("document", tuple(parts))
        return Made(derived([sample], "video_speech", [message], media), about=told)


def utterances(film: Media, model: str, least: float, tools: Tools) -> list[Utterance]:
    """What is said in a film (or its span), times in seconds of the file. Raises MediaError."""
    path = MediaStore(tools.store).local(film.key)
    said = speech.transcribe(path, model, film.start or 0.0, film.end)
    return [one for one in said if one.confidence >= least and not any(mark in one.text for mark in CONTROL_TOKENS)]


def alternating(said: Sequence[Utterance], film: Media, least: float) -> list[tuple[Media, str]]:
    """Spans that follow on one another and fill the film, each with what is said in it.

    A span ends where an utterance ends, once it is `least` seconds long; what is said in a shorter one goes with the
    next.
    """
    start, groups = film.start or 0.0, list[list[Utterance]]()
    for one in said:
        if not groups or groups[-1][-1].end - start >= least:
            start = groups[-1][-1].end if groups else start
            groups.append([])
        groups[-1].append(one)
    if len(groups) > 1 and groups[-1][-1].end - start < least:
        last = groups.pop()
        groups[-1] += last
    edges: list[Any] = [film.start, *(group[-1].end for group in groups[:-1]), film.end]
    words = [" ".join(one.text for one in group) for group in groups]
    return [
        (Media("video", film.key, start=first, end=last), text)
        for (first, last), text in zip(pairwise(edges), words, strict=True)
    ]
