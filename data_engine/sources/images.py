"""A folder of photos that are still to be read: a user turn asks for the text, nobody has answered yet.

The OCR step fills in the assistant's turn; a sample without one is never trained on.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Media, Sample, user
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

PROMPTS = (
    "Read the text in this photo.",
    "What is written in the image?",
    "Write down all the words that you can see.",
    "图中写的是什么？",
)


class ImageOptions(Strict):
    """A folder of images has no options."""


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """One unit per image."""
    parse_options(ImageOptions, options, "images")
    return files(root, IMAGE_SUFFIXES)


@quarantining
def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """One sample: the image and a question about its text, without an assistant's turn."""
    path = path_of(root, unit)
    if path.stat().st_size == 0:
        yield Quarantined(corpus, unit, "image", "empty file")
        return
    media = [Media("image", store.put_file(path))]
    yield make_sample(corpus, source, [user(image_part(), pick(PROMPTS, unit))], media, origin=unit)
