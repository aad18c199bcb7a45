"""A folder of videos, one sample each: the video alone, or with the words that lie beside it.

Beside `walk.mp4`, `walk.txt` is a caption and `walk.srt` or `walk.vtt` the words spoken in it. A video without either
is a document of the video alone: nothing to train on yet, but what makers cut and captioners tell of (docs/videos.md).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Media, Message, Part, Sample, text_part
from data_engine.sources.common import (
    VIDEO_SUFFIXES,
    Quarantined,
    RecordError,
    clean_text,
    files,
    make_sample,
    parse_options,
    path_of,
    quarantining,
)
from strict_yaml import Strict

SPEECH_SUFFIXES = (".srt", ".vtt")
_CUE = re.compile(r"^\s*(?:\d+:)?\d+:\d+[.,]\d+\s*-->")
_TAG = re.compile(r"<[^>\n]*>|\{\\[^}\n]*\}")


class VideosOptions(Strict):
    """A folder of videos has no options."""


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """One unit per video."""
    parse_options(VideosOptions, options, "videos")
    return files(root, VIDEO_SUFFIXES)


@quarantining
def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """One sample: a document of the video, its caption, and its words where they are given."""
    path = path_of(root, unit)
    if path.stat().st_size == 0:
        yield Quarantined(corpus, unit, "video", "empty file")
        return
    words = [*_beside(root, unit, ".txt"), *map(spoken, _speech(root, unit))]
    parts = [Part("video", media=(0,)), *(text_part(f"\n{text}") for text in words if text)]
    media = [Media("video", store.put_file(path))]
    yield make_sample(corpus, source, [Message("document", tuple(parts))], media, origin=unit)


def _speech(root: Path, unit: str) -> list[str]:
    """The first subtitle file beside the video, if any. Raises RecordError."""
    return [text for suffix in SPEECH_SUFFIXES for text in _beside(root, unit, suffix)][:1]


def _beside(root: Path, unit: str, suffix: str) -> list[str]:
    """The text of a side-car file, if there is one. Raises RecordError for one that is no text."""
    path = path_of(root, str(Path(unit).with_suffix(suffix)))
    if not path.is_file():
        return []
    try:
        return [clean_text(path.read_text(encoding="utf-8-sig"), suffix[1:]).strip()]
    except UnicodeDecodeError as error:
        raise RecordError(suffix[1:], f"{path.name}: not UTF-8 at byte {error.start}") from error


def spoken(subtitles: str) -> str:
    """The words of SubRip or WebVTT subtitles, without their numbers, times and marks; a repeated line once."""
    lines: list[str] = []
    for cue in re.split(r"\r?\n\s*\r?\n", subtitles):
        rows = cue.splitlines()
        at = next((place for place, row in enumerate(rows) if _CUE.match(row)), None)
        said = [] if at is None else [_TAG.sub("", row).strip() for row in rows[at + 1 :]]
        lines += [row for row in said if row and lines[-1:] != [row]]
    return "\n".join(lines)
