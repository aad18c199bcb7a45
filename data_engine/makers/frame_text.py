"""Reading exercises: what text a video shows at a time, and when a text is there, by rapidocr over its frames.

A line counts only if neighbouring frames agree on it, and a moment is asked about only if every line seen there counts.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from data_engine import glimpses, grounding, video
from data_engine.grounding import Clip
from data_engine.makers.films import of_each_film
from data_engine.making import Made, Maker, Outcome, Tools, Unmade, derived
from data_engine.media import MediaStore
from data_engine.models import ocr
from data_engine.sample import Media, Part, Sample, assistant, user
from data_engine.sources.common import pick
from data_engine.synthesis import wording
from data_engine.synthesis.wording import LANGUAGES, Language
from model.decoding import VideoInfo

Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")
READER = "rapidocr"
_SEEN = 0.5
"""Confidence below which rapidocr saw texture, not text."""
_ALIKE = 0.75
_UNCHANGED = 4.0
"""Greatest difference of the means of 8 x 8 pixels, of 255 levels, up to which a frame need not be read again."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line as one frame shows it."""

    text: str
    score: float


@dataclass(slots=True)
class Appearance:
    """A text that successive frames show: the numbers of the first and the last one, and every reading of it."""

    first: int
    last: int
    readings: list[Line] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The commonest reading; of equally common ones the surest."""
        counts = Counter(line.text for line in self.readings)
        sure = {line.text: max(r.score for r in self.readings if r.text == line.text) for line in self.readings}
        return max(counts, key=lambda text: (counts[text], sure[text], text))


class FrameText(Maker):
    """Questions about the text in a video, read from `fps` frames a second, times within the clip that is shown.

    A line counts if `min_frames` successive frames show it, each with confidence `min_score` or more. At most
    `max_questions` of each kind are asked of a video, in the `languages` in turn.
    """

    fps: float = Field(default=1.0, gt=0)
    max_side: int = Field(default=960, ge=64)
    min_score: float = Field(default=0.85, ge=0, le=1)
    min_frames: int = Field(default=2, ge=1)
    min_letters: int = Field(default=3, ge=1)
    max_questions: int = Field(default=2, ge=1)
    languages: tuple[Language, ...] = Field(default=LANGUAGES, min_length=1)

    @field_validator("fps")
    @classmethod
    def _in_tenths(cls, fps: float) -> float:
        if abs(10 / fps - round(10 / fps)) > 1e-9:
            raise ValueError(f"{fps:g} frames a second do not fall on tenths of seconds; take 0.5, 1, 2, 5 or 10")
        return fps

    def make(self, samples: Sequence[Sample], tools: Tools) -> Iterator[Outcome]:
        return of_each_film(samples, partial(self._ask, tools=tools), "shows no video that could be read")

    def _ask(self, sample: Sample, film: Media, tools: Tools) -> Iterator[Outcome]:
        info = video.probe(path := MediaStore(tools.store).local(film.key))
        start, end = film.start or 0.0, info.duration if film.end is None else film.end
        frames = list(map(lines_of, self._read(path, info, start, end)))
        shown = [
            seen
            for seen in appearances(frames, self.min_score, self.min_frames)
            if len(re.findall(r"\w", seen.text)) >= self.min_letters
        ]
        if not shown:
            reason = f"no text that {self.min_frames} frames in a row agree on"
            yield Unmade(sample, reason)
            return
        for number, (kind, question, answer) in enumerate(self._questions(sample.id, frames, shown, end - start)):
            messages = [user(Part("video", media=(0,)), question), assistant(answer)]
            made = derived([sample], kind, messages, [film], "video", f"{kind}={number}")
            yield Made(made, READER, {"frames read": str(len(frames)), "texts": str(len(shown))})

    def _read(self, path: Path, info: VideoInfo, start: float, end: float) -> Iterator[ocr.OcrResult]:
        """Every frame's reading; one that is as the frame before is not read again."""
        before, reading = None, None
        for pixels in glimpses.span_frames(path, info, start, end, self.fps, self.max_side):
            small = _blocks(pixels)
            if before is None or reading is None or np.abs(small - before).max() > _UNCHANGED:
                before, reading = small, ocr.read_text(pixels)
            yield reading

    def _questions(
        self, seed: str, frames: Sequence[Sequence[Line]], shown: Sequence[Appearance], seconds: float
    ) -> Iterator[tuple[str, str, str]]:
        """(task, question, answer) of what is shown at some times, and of when some texts are there."""
        whole = moments(frames, shown)
        for turn, at in enumerate(_some(sorted(whole), self.max_questions, seed)):
            template = pick(wording.TEXT_AT[self._language(turn)], seed, at)
            yield "text_at", template.format(time=f"{at / self.fps:.1f}"), "\n".join(whole[at])
        texts = list(dict.fromkeys(seen.text for seen in shown))
        for turn, text in enumerate(_some(texts, self.max_questions, seed)):
            spans = [
                Clip(_tenth(seen.first / self.fps), _tenth(min((seen.last + 1) / self.fps, seconds)), text)
                for seen in shown
                if seen.text == text
            ]
            template = pick(wording.TEXT_WHEN[self._language(turn + 1)], seed, text)
            yield "text_when", template.format(text=text), grounding.render(spans)

    def _language(self, turn: int) -> Language:
        return self.languages[turn % len(self.languages)]


def lines_of(reading: ocr.OcrResult) -> list[Line]:
    """The lines of a frame in reading order, those of no text aside."""
    texts = reading.text.split("\n") if reading.num_lines else []
    return [Line(text.strip(), score) for text, score in zip(texts, reading.scores, strict=True) if score >= _SEEN]


def appearances(frames: Sequence[Sequence[Line]], min_score: float, min_frames: int) -> list[Appearance]:
    """Texts that at least `min_frames` frames in a row show surely, in the order in which they come.

    Two readings are of one text if they differ in few characters; case and white space aside.
    """
    done: list[Appearance] = []
    open_: list[Appearance] = []
    for at, lines in enumerate(frames):
        left = [seen for seen in open_ if seen.last == at - 1]
        done += [seen for seen in open_ if seen.last < at - 1]
        open_ = []
        for line in lines:
            if line.score < min_score or grounding.parse(line.text) != ([], []):
                continue
            seen = next((seen for seen in left if alike(seen.readings[-1].text, line.text)), None)
            if seen is None:
                seen = Appearance(at, at)
            else:
                left.remove(seen)
            seen.last = at
            seen.readings.append(line)
            open_.append(seen)
        open_ += left
    found = [seen for seen in done + open_ if seen.last - seen.first + 1 >= min_frames]
    return sorted(found, key=lambda seen: (seen.first, seen.last, seen.text))


def moments(frames: Sequence[Sequence[Line]], shown: Sequence[Appearance]) -> dict[int, list[str]]:
    """Frames all of whose lines count, and those lines; neither the first nor the last frame of any, where a text
    may be fading."""
    found: dict[int, list[str]] = {}
    for at, lines in enumerate(frames):
        there = [seen for seen in shown if seen.first <= at <= seen.last]
        settled = all(seen.first < at < seen.last or seen.last - seen.first < 2 for seen in there)
        told = [line.text if any(seen.text == line.text for seen in there) else None for line in lines]
        if lines and settled and None not in told and len(told) == len(there):
            found[at] = [text for text in told if text]
    return found


def alike(a: str, b: str) -> bool:
    """Whether two readings are of one text: few characters differ, and no number."""
    a, b = ("".join(text.casefold().split()) for text in (a, b))
    if re.findall(r"\d+", a) != re.findall(r"\d+", b):
        return False
    return a == b or SequenceMatcher(None, a, b, autojunk=False).ratio() >= _ALIKE


def _some(items: Sequence[T], count: int, seed: str) -> list[T]:
    """At most `count` items, spread over all, always the same for one seed."""
    if len(items) <= count:
        return list(items)
    edges = [len(items) * place // count for place in range(count + 1)]
    numbers = [str(place) for place in range(len(items))]
    return [items[int(pick(numbers[low:high], seed, low))] for low, high in pairwise(edges)]


def _blocks(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Means of squares of 8 x 8 pixels; what does not fill one is left out."""
    height, width = pixels.shape[0] // 8 * 8, pixels.shape[1] // 8 * 8
    squares = pixels[:height, :width].reshape(height // 8, 8, width // 8, 8, 3)
    found: npt.NDArray[np.float32] = squares.mean(axis=(1, 3), dtype=np.float32)
    return found


def _tenth(seconds: float) -> float:
    return round(seconds, 1)
