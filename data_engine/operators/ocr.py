"""Operators on text read from images: does an independent reader agree with the label?"""

import difflib
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from data_engine.operators.base import Operator, reasons


class OcrAgreement(Operator):
    """Drops an image whose label an independent OCR engine does not confirm.

    The measure is 2M/T of the two strings without white space (M matching characters, T all), 0 to 1.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("ocr_agreement",)
    min_agreement: float = 0.7

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        pairs = zip(batch["target"].to_pylist(), batch["ocr_text"].to_pylist(), strict=True)
        return {"ocr_agreement": pa.array([agreement(label, read) for label, read in pairs], pa.float64())}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.less(measures["ocr_agreement"], self.min_agreement), "OCR does not confirm label"))


class OcrConfidence(Operator):
    """Drops an image whose text the recogniser read with low mean confidence, 0 to 1."""

    looks_at: ClassVar[tuple[str, ...]] = ("ocr_score",)
    min_score: float = 0.8

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.less(measures["ocr_score"], self.min_score), "OCR not confident"))


def agreement(label: str | None, read: str | None) -> float | None:
    """Character agreement, blind to white space and case; None where there is nothing to compare."""
    if label is None or read is None:
        return None
    first, second = ("".join(text.split()).casefold() for text in (label, read))
    return difflib.SequenceMatcher(None, first, second, autojunk=False).ratio()
