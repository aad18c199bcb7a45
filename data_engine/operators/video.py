"""Operators on video: too short or too long, still, black and dark clips, and such as are mostly text.

A sample that shows a span is measured by that span, from the frames that the probe keeps; one that shows several, by
all of them together.
"""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_engine import glimpses
from data_engine.media import MediaStore
from data_engine.models import ocr
from data_engine.operators.base import Operator, reasons

Pixels = npt.NDArray[np.uint8]
_READ_SIDE = 960
"""Pixels of the longer side of the frames in which text is looked for."""


class Motion(Operator):
    """Drops samples from videos that hardly move: mean absolute frame difference on 0..255."""

    looks_at: ClassVar[tuple[str, ...]] = ("motion",)
    min_motion: float = 0.3

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.less(measures["motion"], self.min_motion), "still video"))


class Brightness(Operator):
    """Drops samples from videos that are nearly black: mean grey level on 0..255."""

    looks_at: ClassVar[tuple[str, ...]] = ("luma",)
    min_luma: float = 10.0

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.less(measures["luma"], self.min_luma), "black video"))


class Duration(Operator):
    """Drops samples whose video, all spans together, is shorter or longer than wanted, in seconds."""

    looks_at: ClassVar[tuple[str, ...]] = ("duration",)
    min_duration: float = 1.0
    max_duration: float = 600.0

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons(
            (pc.less(measures["duration"], self.min_duration), "video too short"),
            (pc.greater(measures["duration"], self.max_duration), "video too long"),
        )


class Static(Operator):
    """Drops videos that stand still most of the time: the share of sampled frames that are as the frame before."""

    looks_at: ClassVar[tuple[str, ...]] = ("static_share",)
    max_share: float = 0.8

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        return {"static_share": batch["static_share"]}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.greater(measures["static_share"], self.max_share), "static video"))


class Black(Operator):
    """Drops videos that are black much of the time: the share of sampled frames whose mean grey level is below 16."""

    looks_at: ClassVar[tuple[str, ...]] = ("black_share",)
    max_share: float = 0.3

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        return {"black_share": batch["black_share"]}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.greater(measures["black_share"], self.max_share), "black frames"))


class TextArea(Operator):
    """Drops videos covered with text, such as title cards and slides: the share of the picture within lines that
    rapidocr reads, the mean of `frames` frames of every span."""

    needs_media: ClassVar[bool] = True
    looks_at: ClassVar[tuple[str, ...]] = ("text_area",)
    measured_by: ClassVar[tuple[str, ...]] = ("frames",)
    frames: int = Field(default=3, ge=1)
    max_area: float = 0.15

    def measure_media(self, batch: pa.Table, store: MediaStore) -> dict[str, pa.Array]:
        known: dict[str, float | None] = {}
        for media in batch["media"].to_pylist():
            if (name := str(media)) not in known:
                seen = [text_share(pixels) for pixels in glimpses.of_sample(media, store, self.frames, _READ_SIDE)]
                known[name] = float(np.mean(seen)) if seen else None
        return {"text_area": pa.array([known[str(media)] for media in batch["media"].to_pylist()], pa.float64())}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.greater(measures["text_area"], self.max_area), "mostly text"))


def text_share(pixels: Pixels) -> float:
    """The share of an RGB frame [H, W, 3] that lies within lines of text, 0 to 1."""
    covered = np.zeros(pixels.shape[:2], bool)
    for x1, y1, x2, y2 in np.round(ocr.read_text(pixels).boxes).astype(int).clip(0).tolist():
        covered[y1:y2, x1:x2] = True
    return float(covered.mean())
