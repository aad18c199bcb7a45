"""Pictures nobody should train on: unsafe ones are dropped, faces and other private regions are made unrecognisable."""

import dataclasses
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from pydantic import model_validator

from data_engine import sample as samples_
from data_engine.media import MediaStore
from data_engine.models import faces, safety
from data_engine.operators.base import Operator, reasons
from data_engine.operators.image_text import open_image
from data_engine.sample import Sample
from strict_yaml import Strict

Pixels = npt.NDArray[np.uint8]
Find = Callable[[Pixels], npt.NDArray[np.int64]]
BLOCKS = 6
"""Blocks across the shorter side of a region that is made unrecognisable."""


class Safety(Operator):
    """Drops samples with an unsafe image, by the safety model: the greatest score of a sample's images, 0 to 1."""

    needs_media: ClassVar[bool] = True
    looks_at: ClassVar[tuple[str, ...]] = ("unsafe",)
    max_unsafe: float = 0.5

    def require(self) -> None:
        safety.require()

    def measure_media(self, batch: pa.Table, store: MediaStore) -> dict[str, pa.Array]:
        rows = [
            [picture["key"] for picture in row or () if _is_image(picture)] for row in batch["pictures"].to_pylist()
        ]
        scores = _scores(list(dict.fromkeys(key for row in rows for key in row)), store)
        found = [max((scores[key] for key in row if key in scores), default=None) for row in rows]
        return {"unsafe": pa.array(found, pa.float64())}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.greater(measures["unsafe"], self.max_unsafe), "unsafe image"))


def _is_image(picture: dict[str, Any] | None) -> bool:
    return picture is not None and picture["kind"] == "image"


def _scores(keys: Sequence[str], store: MediaStore) -> dict[str, float]:
    found: dict[str, float] = {}
    for at in range(0, len(keys), safety.BATCH):
        opened = {key: pixels for key in keys[at : at + safety.BATCH] if (pixels := open_image(key, store)) is not None}
        found |= dict(zip(opened, safety.scores(list(opened.values())), strict=True))
    return found


class Faces(Strict):
    """What finds faces: a YuNet model file and the least score. A transformation's settings, not an operator."""

    model: str
    min_score: float = 0.7

    @model_validator(mode="after")
    def _has_model(self) -> Self:
        faces.require(self.model)
        return self


def blur_partition(table: pa.Table, *, store: Path, find: Faces) -> dict[str, pa.Table]:
    """Samples to `samples`, those with a face in an image replaced by a child without (row for row, in order)."""
    found: dict[str, str] = {}
    media = MediaStore(store)
    blurred = [
        blur_sample(sample, media, lambda pixels: faces.detect(pixels, find.model, find.min_score), found)
        for sample in samples_.from_table(table)
    ]
    return {"samples": samples_.to_table(blurred)}


def blur_sample(sample: Sample, store: MediaStore, find: Find, found: dict[str, str]) -> Sample:
    """The sample itself, or its child in which the regions of its images that `find` names cannot be recognised.

    New images are kept as PNG. `found` remembers what became of which image, for the samples that follow. Videos, and
    images that do not open, stay as they are.
    """
    for item in sample.media:
        if item.kind == "image" and item.start is None and item.key not in found:
            found[item.key] = _blurred_key(item.key, store, find)
    media = tuple(dataclasses.replace(item, key=_new_key(item, found)) for item in sample.media)
    if media == sample.media:
        return sample
    return dataclasses.replace(sample, media=media, parents=(sample.id,), id="")


def _new_key(item: samples_.Media, found: dict[str, str]) -> str:
    return found.get(item.key, item.key) if item.kind == "image" and item.start is None else item.key


def _blurred_key(key: str, store: MediaStore, find: Find) -> str:
    pixels = open_image(key, store)
    boxes = np.empty((0, 4), np.int64) if pixels is None else find(pixels)
    if pixels is None or not len(boxes):
        return key
    buffer = io.BytesIO()
    Image.fromarray(unrecognisable(pixels, boxes)).save(buffer, "PNG")
    return store.put_bytes(buffer.getvalue(), ".png")


def unrecognisable(pixels: Pixels, boxes: npt.NDArray[np.int64]) -> Pixels:
    """A copy of the picture [H, W, 3] with each box [n, 4] averaged down to a few blocks and drawn up again smoothly.

    A Gaussian blur can be undone in part; averages of blocks cannot.
    """
    image = Image.fromarray(pixels)
    for x1, y1, x2, y2 in boxes.tolist():
        if x2 > x1 and y2 > y1:
            scale = BLOCKS / min(x2 - x1, y2 - y1)
            size = (max(1, round((x2 - x1) * min(scale, 1))), max(1, round((y2 - y1) * min(scale, 1))))
            region = image.crop((x1, y1, x2, y2)).resize(size, Image.Resampling.BOX)
            image.paste(region.resize((x2 - x1, y2 - y1), Image.Resampling.BILINEAR), (x1, y1))
    return np.asarray(image)
