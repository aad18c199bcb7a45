"""Images with a side-car text file of the same name, as Tux Paint keeps its stamps.

The side-car's first line is the caption in English; a line `zh_CN.utf8=...` is the one in Chinese.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field, field_validator

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Media, Message, Sample, assistant, user
from data_engine.sources.common import (
    IMAGE_SUFFIXES,
    Quarantined,
    files,
    image_part,
    make_sample,
    parse_options,
    path_of,
    pick,
    quarantining,
)
from strict_yaml import Strict

PROMPTS = {
    "en": (
        "What is in this picture?",
        "Describe this image in a few words.",
        "Give this picture a short caption.",
        "What does the image show?",
    ),
    "zh": (
        "这张图片里是什么？",
        "用一句话描述这张图片。",
        "请给这张图片写一个简短的说明。",
        "图中画的是什么？",
    ),
}
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


class CaptionOptions(Strict):
    """`languages`: one sample for each of these that the side-car has."""

    languages: tuple[str, ...] = Field(default=("en",), min_length=1)

    @field_validator("languages")
    @classmethod
    def _has_prompts(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        for language in languages:
            if _base(language) not in PROMPTS:
                raise ValueError(f"no prompts in {language!r}; there are prompts in {', '.join(PROMPTS)}")
        return languages


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """One unit per image."""
    parse_options(CaptionOptions, options, "captions")
    return files(root, IMAGE_SUFFIXES)


@quarantining
def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """One sample per language: the image, a prompt in that language, the caption."""
    path = path_of(root, unit)
    sidecar = path_of(root, str(PurePosixPath(unit).with_suffix(".txt")))
    try:
        captions = parse_sidecar(sidecar.read_text(encoding="utf-8"))
    except FileNotFoundError:
        yield Quarantined(corpus, unit, "caption", f"no caption file {sidecar.name} beside the image")
        return
    except (OSError, UnicodeDecodeError) as error:
        yield Quarantined(corpus, unit, "caption", f"{sidecar.name} cannot be read as UTF-8: {error}")
        return
    languages = parse_options(CaptionOptions, source.options, "captions").languages
    found = [(language, captions[language]) for language in languages if captions.get(language)]
    if path.stat().st_size == 0:
        yield Quarantined(corpus, unit, "image", "empty file")
    elif not found:
        yield Quarantined(corpus, unit, "caption", f"{sidecar.name} has no caption in {', '.join(languages)}")
    else:
        key = store.put_file(path)
        for language, caption in found:
            if "\0" in caption:
                yield Quarantined(corpus, f"{unit}#{language}", "caption", f"{sidecar.name} holds a NUL byte")
                continue
            prompt = pick(PROMPTS[_base(language)], unit, language)
            messages = (user(image_part(), prompt), assistant(caption))
            origin = f"{unit}#{language}"
            yield make_sample(corpus, source, messages, [Media("image", key)], origin=origin)


def parse_sidecar(text: str) -> dict[str, str]:
    """Captions by language code; the unmarked first line is `en`. A code ending in `.utf8` loses that."""
    first, *rest = text.splitlines() or [""]
    captions = {"en": first.strip()}
    for line in rest:
        code, mark, caption = line.partition(".utf8=")
        if mark and caption.strip():
            captions[code.strip()] = caption.strip()
    return captions


def caption_messages(caption: str, *keys: object) -> tuple[Message, Message]:
    """A prompt in the caption's own language, chosen by `keys`, with the image; the caption."""
    language = "zh" if _CHINESE.search(caption) else "en"
    return user(image_part(), pick(PROMPTS[language], *keys)), assistant(caption)


def _base(language: str) -> str:
    return language.partition("_")[0]
