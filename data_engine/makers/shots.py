"""Films into shots: every video of a sample becomes samples of its spans. Nothing is encoded again."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import xxhash
from pydantic import Field, model_validator

from data_engine import shots, video
from data_engine.makers.films import equal_pieces, footage, of_each_film
from data_engine.making import Made, Maker, Outcome, Tools, Unmade
from data_engine.media import MediaStore, write_atomic
from data_engine.models import transnet
from data_engine.sample import Media, Sample
from data_engine.shots import Detector, Span
from model.decoding import VideoInfo

MAX_RATE = 60.0
"""Frames a second at which a film is looked at, at most."""


class Shots(Maker):
    """Cuts films where one shot ends and the next begins; a shot is a document of its video alone.

    Shots shorter than `min_seconds` are left out, longer ones than `max_seconds` cut into equal pieces. `model`: none
    for the built-in `detector`; `package` for TransNetV2 as its package brings it, or a file of its weights, with the
    probability `threshold`.
    """

    min_seconds: float = Field(default=1.0, gt=0)
    max_seconds: float = Field(default=60.0, gt=0)
    detector: Detector = Detector()
    model: str | None = None
    threshold: float = Field(default=0.5, gt=0, lt=1)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.max_seconds < 2 * self.min_seconds:
            raise ValueError("max_seconds must be at least twice min_seconds: a longer shot is cut into pieces")
        return self

    def require(self) -> None:
        if self.model is not None:
            transnet.require(self.model)

    def make(self, samples: Sequence[Sample], tools: Tools) -> Iterator[Outcome]:
        cut = partial(self._cut, tools=tools)
        return of_each_film(samples, cut, "shows no video that could be cut")

    def _cut(self, sample: Sample, film: Media, tools: Tools) -> Iterator[Outcome]:
        pieces = self.spans(film, tools)
        found = fitted(pieces, self.min_seconds, self.max_seconds)
        if not found:
            yield Unmade(sample, f"{len(pieces)} shots, none of {self.min_seconds:g} s or more")
        told = {"shots in the film": str(len(pieces)), "found by": self.model or "the built-in detector"}
        for start, end in found:
            about = {**told, "span": f"{start:g} to {end:g} s"}
            yield Made(footage(sample, film, (start, end), "t"), about=about)

    def spans(self, film: Media, tools: Tools) -> list[Span]:
        """All shots of a film or a span of it, however short, in source time. Raises MediaError.

        A film is decoded once for one set of rules: its cuts are noted in `tools.cache`.
        """
        path = MediaStore(tools.store).local(film.key)
        info = video.probe(path)
        first, last = film.start or 0.0, info.duration if film.end is None else film.end
        cuts = self._noted(path, info, tools.cache / "shots" / f"{film.key}-{self._rules()}.json")
        inside = [cut - first for cut in cuts if first < cut < last]
        return [(round(first + a, 3), round(first + b, 3)) for a, b in shots.spans(inside, last - first)]

    def _rules(self) -> str:
        rules = [self.detector.model_dump(), self.model, self.threshold if self.model else None]
        return xxhash.xxh3_64_hexdigest(json.dumps(rules).encode())

    def _noted(self, path: Path, info: VideoInfo, note: Path) -> list[float]:
        if not note.exists():
            write_atomic(note, json.dumps(list(self._cuts(path, info))).encode())
        found: list[float] = json.loads(note.read_bytes())
        return found

    def _cuts(self, path: Path, info: VideoInfo) -> Iterator[float]:
        """Seconds at which shots begin, the first aside."""
        fps = min(info.fps, MAX_RATE) or 25.0
        if self.model is None:
            frames = video.sample_frames(path, info, fps=fps, max_side=shots.SIDE)
            yield from (found.frame / fps for found in shots.boundaries(frames, fps, self.detector))
        else:
            small = video.sample_frames(path, info, fps=fps, max_side=transnet.WIDTH * 4)
            scores = transnet.scores(map(transnet.squeezed, small), self.model)
            yield from (frame / fps for frame in transnet.starts(scores, self.threshold))


def fitted(pieces: Sequence[Span], min_seconds: float, max_seconds: float) -> list[Span]:
    """The pieces that are long enough, those that are too long in as few equal parts as are not."""
    long_enough = [piece for piece in pieces if piece[1] - piece[0] >= min_seconds]
    return [part for piece in long_enough for part in equal_pieces(piece, max_seconds, 3)]
