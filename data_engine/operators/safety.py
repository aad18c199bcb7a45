"""Pictures nobody should train on: unsafe ones are dropped, private regions of others are made unrecognisable."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from pydantic import Field

from data_engine import glimpses
from data_engine.media import MediaStore
from data_engine.models import safety
from data_engine.operators.base import Operator, reasons
from data_engine.operators.image_text import open_image
from data_engine.runners.needs import SAFETY, Needs

Pixels = npt.NDArray[np.uint8]
_SIDE = 448
"""Pixels of the longer side of the frames that are judged: the model looks at 224."""
BLOCKS = 6
"""Blocks across the shorter side of a region that is made unrecognisable."""


class Safety(Operator):
    """Drops samples with an unsafe picture, by the safety model: the greatest score of a sample's images, and of
    `frames` frames of every span of a video, 0 to 1."""

    needs_media: ClassVar[bool] = True
    looks_at: ClassVar[tuple[str, ...]] = ("unsafe",)
    measured_by: ClassVar[tuple[str, ...]] = ("frames",)
    frames: int = Field(default=3, ge=1)
    max_unsafe: float = 0.5

    def require(self) -> None:
        safety.require()

    def needs(self) -> Needs:
        return SAFETY

    def measure_media(self, batch: pa.Table, store: MediaStore) -> dict[str, pa.Array]:
        rows = [
            [picture["key"] for picture in row or () if _is_image(picture)] for row in batch["pictures"].to_pylist()
        ]
        scores = _scores(list(dict.fromkeys(key for row in rows for key in row)), store)
        found = [[scores[key] for key in row if key in scores] for row in rows]
        for place, media in enumerate(batch["media"].to_pylist()):
            found[place] += safety.scores(list(glimpses.of_sample(media, store, self.frames, _SIDE)))
        return {"unsafe": pa.array([max(row, default=None) for row in found], pa.float64())}

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
