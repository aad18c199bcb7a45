"""A folder of videos, and the tasks with exact answers cut from them (see `synthesis.video_truth`)."""

import random
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Sample
from data_engine.sources.common import (
    VIDEO_SUFFIXES,
    Quarantined,
    RecordError,
    files,
    make_sample,
    parse_options,
    path_of,
)
from data_engine.synthesis.video_truth import NEED_TWO_FILMS, TASKS, Cut, Film, seconds_needed, unlike
from data_engine.synthesis.wording import LANGUAGES, Language
from data_engine.twins import with_twins
from model import decoding
from model.decoding import VideoError
from strict_yaml import Strict

UNIT_TASKS = 50
VIDEOS = "videos"


class VideoTruthOptions(Strict):
    """What to cut. `names`: what files are called, by language; which_clip uses only those that have one.

    `clip_seconds`: the shortest and the longest clip. `num`: how many of each task.
    """

    num: dict[Literal["frame_order", "splice_time", "which_clip", "which_first", "video_match"], int] = Field(
        default={"frame_order": 100, "splice_time": 100, "which_clip": 100, "which_first": 100, "video_match": 100}
    )
    names: dict[str, dict[Language, str]] = Field(default_factory=dict)
    fps: float = Field(default=2.0, gt=0)
    clip_seconds: tuple[float, float] = (6.0, 8.0)
    languages: tuple[Language, ...] = Field(default=LANGUAGES, min_length=1)
    seed: int = 0

    @field_validator("num")
    @classmethod
    def _not_negative(cls, num: dict[str, int]) -> dict[str, int]:
        if any(count < 0 for count in num.values()):
            raise ValueError(f"{num} must not be negative")
        return num

    @model_validator(mode="after")
    def _room_to_cut(self) -> Self:
        shortest, longest = self.clip_seconds
        if not 2 / self.fps <= shortest <= longest:
            raise ValueError(f"clip_seconds {self.clip_seconds} must rise and give two frames at {self.fps} fps")
        return self


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """`videos`, which tells of those that cannot be cut from, and ranges of tasks, `splice_time#0-50`."""
    parsed = parse_options(VideoTruthOptions, options, "video_truth")
    found = [VIDEOS] if files(root, VIDEO_SUFFIXES) else []
    for task, count in parsed.num.items():
        starts = range(0, count, UNIT_TASKS)
        found += [f"{task}#{start}-{min(start + UNIT_TASKS, count)}" for start in starts]
    return found


def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """The tasks of a range, each from its own random state; or the videos that are left out, and why.

    A task's `group` is the task itself: held out are unseen questions, not unseen films.
    """
    options = parse_options(VideoTruthOptions, source.options, "video_truth")
    cut = Cut(options.fps, *options.clip_seconds)
    usable = {name: _usable(root, name, cut) for name in files(root, VIDEO_SUFFIXES)}
    task, _, span = unit.partition("#")
    enough = 2 if task in NEED_TWO_FILMS else 1
    good = {
        name: seconds
        for name, seconds in usable.items()
        if isinstance(seconds, float) and (task != "which_clip" or _is_named(name, options))
    }
    if unit == VIDEOS:
        faults = {name: fault for name, fault in usable.items() if isinstance(fault, str)}
        yield from (Quarantined(corpus, name, "video", fault) for name, fault in faults.items())
    elif len(good) < enough:
        named = " with a name in every language" if task == "which_clip" else ""
        reason = f"needs {enough} usable videos{named}, the folder has {len(good)}"
        yield Quarantined(corpus, unit, "video", reason)
    else:
        films = [
            Film(store.put_file(path_of(root, name)), seconds, options.names.get(name, {}))
            for name, seconds in good.items()
        ]
        films = with_twins(films, store) if task == "video_match" else films
        if task == "video_match" and not any(unlike(film, films) for film in films):
            yield Quarantined(corpus, unit, "video", "all usable videos show the same pictures")
            return
        for index in range(*map(int, span.split("-"))):
            rng = random.Random(f"{options.seed}/{task}/{index}")
            language = options.languages[index % len(options.languages)]
            messages, media = TASKS[task](rng, films, cut, language)
            origin = f"{task}#{index}"
            yield make_sample(
                corpus, _as_task(source, task), messages, media, origin=origin, group=f"{corpus}/{origin}"
            )


def _is_named(name: str, options: VideoTruthOptions) -> bool:
    return all(language in options.names.get(name, {}) for language in options.languages)


def _as_task(source: Source, task: str) -> Source:
    """The source with the task's own name, so that measures and evaluation can tell the tasks apart."""
    return source.model_copy(update={"task": task})


def _usable(root: Path, name: str, cut: Cut) -> float | str:
    """The seconds that can be cut from, or why the video is left out."""
    try:
        path = path_of(root, name)
        status = path.stat()
    except (RecordError, OSError) as error:
        return f"cannot be read: {error}"
    found = _examine(path, status.st_size, status.st_mtime_ns)
    if isinstance(found, float) and found < seconds_needed(cut):
        return f"video is {found:.1f} s long; tasks with clips of {cut.longest} s need {seconds_needed(cut)} s"
    return found


@lru_cache(maxsize=256)
def _examine(path: Path, size: int, modified: int) -> float | str:  # noqa: ARG001 - keys of the cache
    """Seconds up to the last packet's time; a file that ends well before its header's duration is damaged."""
    try:
        info = decoding.probe(path)
        end = decoding.scan(path, info).last
        decoding.check_whole(path, info, end)
    except VideoError as error:
        return error.reason
    return min(end, info.duration)
