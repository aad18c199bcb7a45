"""Operators on video: still, dark and too short clips."""

from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from data_engine.operators.base import Operator, reasons


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
