"""Operators on images that carry captions or questions: size, shape and emptiness of the picture."""

from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from data_engine.operators.base import Operator, reasons


class Resolution(Operator):
    """Drops images too small to show anything, or too long and narrow (smart_resize refuses beyond 200)."""

    looks_at: ClassVar[tuple[str, ...]] = ("short_side", "aspect")
    min_side: int = 32
    max_aspect: float = 8.0

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        width, height = (pc.cast(batch[side], pa.float64()) for side in ("width", "height"))
        long, short = pc.max_element_wise(width, height), pc.min_element_wise(width, height)
        return {"short_side": short, "aspect": pc.divide(long, short)}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons(
            (pc.less(measures["short_side"], self.min_side), "image too small"),
            (pc.greater(measures["aspect"], self.max_aspect), "image too narrow"),
        )


class Blank(Operator):
    """Drops near-blank images: grey-level entropy in bits (0 is one shade)."""

    looks_at: ClassVar[tuple[str, ...]] = ("entropy",)
    min_entropy: float = 0.5

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.less(measures["entropy"], self.min_entropy), "near-blank image"))
