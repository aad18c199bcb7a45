"""Event segments of films for temporal grounding: shots merged to events of a useful length, repeated ones left out.

Steps 1 and 2 of temporal grounding (Keye-VL-1.5 report, grounding data; TEMPURA, arXiv 2505.01583) as far as they need
no teacher: captions and questions are put upon these segments elsewhere. `timeline` writes captioned segments as text.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from data_engine import frames, glimpses, grounding, video
from data_engine.dedup.video import Clips, Video, containments
from data_engine.grounding import Clip
from data_engine.makers.films import equal_pieces, footage, of_each_film
from data_engine.makers.shots import Shots
from data_engine.making import Made, Maker, Outcome, Tools
from data_engine.media import MediaStore
from data_engine.sample import Media, Sample
from data_engine.shots import Span
from model.decoding import VideoInfo

Hashes = npt.NDArray[np.uint64]
_SIDE = 224


class Segments(Maker):
    """Cuts a film into events of `min_seconds` to `max_seconds`; each is a document of its video alone.

    A segment that the film has shown before is left out; its frames are compared at `fps`, as in the pass `video`.
    `shots` says how shots are found.
    """

    min_seconds: float = Field(default=2.0, gt=0)
    max_seconds: float = Field(default=20.0, gt=0)
    fps: float = Field(default=2.0, gt=0)
    shots: Shots = Shots()
    repeats: Video = Video()

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.max_seconds < 2 * self.min_seconds:
            raise ValueError("max_seconds must be at least twice min_seconds: a longer segment is cut into pieces")
        return self

    def require(self) -> None:
        self.shots.require()

    def make(self, samples: Sequence[Sample], tools: Tools) -> Iterator[Outcome]:
        cut = partial(self._cut, tools=tools)
        return of_each_film(samples, cut, "shows no video that could be cut")

    def _cut(self, sample: Sample, film: Media, tools: Tools) -> Iterator[Outcome]:
        found, repeated = self.segments(film, tools)
        about = {"events": str(len(found)), "repeated events left out": str(repeated)}
        return (Made(footage(sample, film, span, "event"), about=about) for span in found)

    def segments(self, film: Media, tools: Tools) -> tuple[list[Span], int]:
        """The events of a film in seconds of its source, and how many were left out as repeated. Raises MediaError."""
        events = merged(self.shots.spans(film, tools), self.min_seconds, self.max_seconds)
        path = MediaStore(tools.store).local(film.key)
        info = video.probe(path)
        kept = once(events, [span_hashes(path, info, event, self.fps) for event in events], self.repeats)
        return kept, len(events) - len(kept)


def merged(shots: Sequence[Span], min_seconds: float, max_seconds: float) -> list[Span]:
    """Neighbouring shots joined until each event has `min_seconds`; longer ones than `max_seconds` in equal pieces.

    The last event, if it stays too short, joins the one before it. Times are rounded to tenths, as they are written.
    """
    joined: list[Span] = []
    for start, end in shots:
        if joined and joined[-1][1] - joined[-1][0] < min_seconds:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    if len(joined) > 1 and joined[-1][1] - joined[-1][0] < min_seconds:
        joined[-2:] = [(joined[-2][0], joined[-1][1])]
    return [(a, b) for event in joined for a, b in equal_pieces(event, max_seconds, 1) if b > a]


def once(events: Sequence[Span], hashes: Sequence[Hashes], rules: Video) -> list[Span]:
    """The events that show something new: of those that hold one another the earlier stays."""
    number = np.arange(len(events), dtype=np.int64)
    start = np.concatenate([[0], np.cumsum([len(found) for found in hashes])]).astype(np.int64)
    whole = np.concatenate([np.empty(0, np.uint64), *hashes])
    clips = Clips(number, np.zeros(len(events)), np.full(len(events), np.inf), whole, start, number, number)
    earlier = {int(a) for a, b in zip(*containments(clips, rules), strict=True) if b < a}
    return [event for place, event in enumerate(events) if place not in earlier]


def span_hashes(path: Path, info: VideoInfo, span: Span, fps: float) -> Hashes:
    """The hashes of a span's frames, `fps` a second; only the span is decoded."""
    shown = glimpses.span_frames(path, info, *span, fps, _SIDE)
    return np.array([frames.frame_hash(pixels) for pixels in shown], np.uint64)


def timeline(segments: Sequence[Clip]) -> str:
    """Captioned segments in the clip-time format, a line each, in order of time.

    `grounding.parse` reads them back and finds the faults of what others wrote. Raises GroundingError.
    """
    tenths = [Clip(round(clip.start, 1), round(clip.end, 1), clip.caption) for clip in segments]
    order = sorted(range(len(tenths)), key=lambda place: (tenths[place].start, tenths[place].end))
    return grounding.render([tenths[place] for place in order])


def faults(text: str, seconds: float) -> list[str]:
    """What is wrong with a text that should be a timeline of a video of this length; empty: nothing."""
    shapes, found = grounding.parse(text)
    clips = [shape for shape in shapes if isinstance(shape, Clip)]
    wrong = [fault.kind for fault in found]
    wrong += [] if clips else ["no clip times"]
    wrong += ["clip without a caption" for clip in clips if not clip.caption]
    beyond = [clip for clip in clips if clip.end > seconds + 0.1]
    return wrong + [f"clip ends at {clip.end:g} s, the video at {seconds:.1f} s" for clip in beyond]
