"""Video tasks whose answers are known exactly, because the task itself was made by cutting.

No answer describes a picture: each follows from which moments were shown and in which order. Every task
is a few references into the store; no frame is encoded again. All times lie on the grid of sampled
frames (`i / fps`), and a span holds the frames from its start up to, not including, its end: the first
frame of a second span is shown at exactly the length of the first.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data_engine.sample import Media, Message, Part, assistant, text_part, user
from data_engine.synthesis import wording
from data_engine.synthesis.wording import Language

LETTERS = "ABCD"


@dataclass(frozen=True, slots=True)
class Film:
    """A video to cut from: its key in the store, its usable seconds, what it is called, by language, and the keys of
    films that show the same pictures."""

    key: str
    seconds: float
    names: dict[Language, str]
    twins: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Cut:
    """How long things are, in seconds: the frame rate's grid, and the shortest and longest clip."""

    fps: float
    shortest: float
    longest: float

    def ticks(self, seconds: float) -> int:
        """Whole steps of the grid in `seconds`; a step that rounding alone keeps out counts."""
        return int(seconds * self.fps + 1e-6)


Task = tuple[tuple[Message, ...], tuple[Media, ...]]
Maker = Callable[[random.Random, Sequence[Film], Cut, Language], Task]


def seconds_needed(cut: Cut) -> float:
    """How long a film must be at least to be cut from: room for two clips and as much between them."""
    return 3 * cut.longest


def frame_order(rng: random.Random, films: Sequence[Film], cut: Cut, language: Language) -> Task:
    """Four frames of one film, shuffled; the answer is their letters in the order of time ("C A D B").

    They lie a quarter of `longest` apart at least, within three times `longest`.
    """
    film = _film(rng, films)
    window, apart = cut.ticks(seconds_needed(cut)), max(1, cut.ticks(cut.longest / 4))
    slack = window - 1 - 3 * apart
    offsets = [value + index * apart for index, value in enumerate(sorted(rng.choices(range(slack + 1), k=4)))]
    start = rng.randint(0, cut.ticks(film.seconds) - window)
    shown = rng.sample(offsets, k=4)
    media = tuple(Media("image", film.key, start=(start + offset) / cut.fps) for offset in shown)
    parts: list[Part] = []
    for index, letter in enumerate(LETTERS):
        parts += [text_part(f"{letter}: "), Part("image", media=(index,)), text_part("\n")]
    answer = " ".join(LETTERS[shown.index(offset)] for offset in offsets)
    return (user(*parts, rng.choice(wording.FRAME_ORDER[language])), assistant(answer)), media


def splice_time(rng: random.Random, films: Sequence[Film], cut: Cut, language: Language) -> Task:
    """One clip that cuts from one film to another; the answer is the time of the cut ("3.5 s").

    The spans are of different films: within one film its own cuts could be meant as well.
    """
    media = _splice(rng, films, cut)
    answer = wording.seconds(_length(media[0]), language)
    question = rng.choice(wording.SPLICE_TIME[language])
    return (user(Part("video", media=(0, 1)), question), assistant(answer)), media


def which_clip(rng: random.Random, films: Sequence[Film], cut: Cut, language: Language) -> Task:
    """One clip of two films; the answer is the name of the one shown at a given time."""
    media = _splice(rng, films, cut)
    names = {film.key: film.names[language] for film in films}
    change, total = cut.ticks(_length(media[0])), cut.ticks(_length(media[0]) + _length(media[1]))
    moment = rng.randrange(total)
    answer = names[media[0].key if moment < change else media[1].key]
    choices = wording.OR[language].join(sorted({names[item.key] for item in media}))
    template = rng.choice(wording.WHICH_CLIP[language])
    question = template.format(time=f"{moment / cut.fps:.1f}", choices=choices)
    answer = answer[0].upper() + answer[1:] + wording.END[language]
    return (user(Part("video", media=(0, 1)), question), assistant(answer)), media


def which_first(rng: random.Random, films: Sequence[Film], cut: Cut, language: Language) -> Task:
    """Two spans of one film, at least `longest` apart; the answer is the letter of the earlier one."""
    film = _film(rng, films)
    length, apart = _clip_ticks(rng, cut) // 2, cut.ticks(cut.longest)
    last = cut.ticks(film.seconds) - length
    early = rng.randint(0, last - length - apart)
    late = rng.randint(early + length + apart, last)
    shown = rng.sample([early, late], k=2)
    media = tuple(_span(film, start, length, cut) for start in shown)
    question = rng.choice(wording.WHICH_FIRST[language])
    a, b = Part("video", media=(0,)), Part("video", media=(1,))
    message = user("A: ", a, "\nB: ", b, "\n" + question)
    return (message, assistant(LETTERS[shown.index(early)])), media


def unlike(film: Film, films: Sequence[Film]) -> list[Film]:
    """The films that show none of the same pictures."""
    return [other for other in films if other.key != film.key and other.key not in film.twins]


def video_match(rng: random.Random, films: Sequence[Film], cut: Cut, language: Language) -> Task:
    """Two clips of one film and some candidates; the answer is the letter of the one cut from near them.

    The three lie within three times `longest` and share no frame; every other candidate is of another film that shows
    none of the same pictures (`unlike`): some film must have such.
    """
    film = _film(rng, [film for film in films if unlike(film, films)])
    others = unlike(film, films)
    window, length = cut.ticks(seconds_needed(cut)), _clip_ticks(rng, cut) // 2
    offsets = [
        value + index * length for index, value in enumerate(sorted(rng.choices(range(window - 3 * length), k=3)))
    ]
    start = rng.randint(0, cut.ticks(film.seconds) - window)
    near = [_span(film, start + offset, length, cut) for offset in rng.sample(offsets, k=3)]
    chosen = rng.sample(others, k=min(len(LETTERS) - 1, len(others)))
    candidates = [near[2], *(_any_span(rng, other, length, cut) for other in chosen)]
    rng.shuffle(candidates)
    media = (*near[:2], *candidates)
    parts: list[Part | str] = [wording.GIVEN[language], Part("video", media=(0,)), Part("video", media=(1,))]
    parts.append("\n" + wording.CANDIDATES[language])
    for index in range(len(candidates)):
        parts += [f"\n{LETTERS[index]}: ", Part("video", media=(index + 2,))]
    message = user(*parts, "\n" + rng.choice(wording.VIDEO_MATCH[language]))
    return (message, assistant(LETTERS[candidates.index(near[2])])), media


TASKS: dict[str, Maker] = {
    "frame_order": frame_order,
    "splice_time": splice_time,
    "which_clip": which_clip,
    "which_first": which_first,
    "video_match": video_match,
}
NEED_TWO_FILMS = frozenset({"splice_time", "which_clip", "video_match"})


def _film(rng: random.Random, films: Sequence[Film]) -> Film:
    """A film, so that every second of footage is as likely as every other."""
    return rng.choices(films, weights=[film.seconds for film in films])[0]


def _splice(rng: random.Random, films: Sequence[Film], cut: Cut) -> tuple[Media, Media]:
    """Spans of two different films, each at least a fifth of the clip."""
    first, second = rng.sample(films, k=2)
    total = _clip_ticks(rng, cut)
    least = max(1, total // 5)
    head = rng.randint(least, total - least)
    return _any_span(rng, first, head, cut), _any_span(rng, second, total - head, cut)


def _clip_ticks(rng: random.Random, cut: Cut) -> int:
    return rng.randint(cut.ticks(cut.shortest), cut.ticks(cut.longest))


def _any_span(rng: random.Random, film: Film, length: int, cut: Cut) -> Media:
    return _span(film, rng.randint(0, cut.ticks(film.seconds) - length), length, cut)


def _span(film: Film, start: int, length: int, cut: Cut) -> Media:
    return Media("video", film.key, start=start / cut.fps, end=(start + length) / cut.fps)


def _length(media: Media) -> float:
    assert media.start is not None and media.end is not None
    return media.end - media.start
