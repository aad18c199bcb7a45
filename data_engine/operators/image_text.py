"""Image-text similarity: does the picture show what the words say? Scores are a checkpoint's own, on its own scale."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_engine.media import MediaError, MediaStore, decode_image
from data_engine.models import image_text
from data_engine.operators.base import Operator, reasons
from data_engine.runners.needs import Needs, checkpoint

Pixels = npt.NDArray[np.uint8]


class Scored(Operator):
    """What every operator with an image-text scorer has: the checkpoint's folder and the thresholds.

    `min_percentile` is of the column at hand, so that scorers can be exchanged: decide over a whole corpus at once, or
    turn it into a score first with `settled`. A checkpoint must have shown that it can score (`require`).
    """

    needs_media: ClassVar[bool] = True
    measured_by: ClassVar[tuple[str, ...]] = ("model",)
    model: str
    trusted: bool = False
    min_score: float | None = None
    min_percentile: float | None = Field(default=None, ge=0, le=100)

    def require(self) -> None:
        image_text.require(self.model, self.trusted)

    def needs(self) -> Needs:
        return checkpoint(self.model)

    def settled(self, measures: pa.Table) -> Self:
        """The same operator with its percentile, of the whole column, as a score: it can then decide part by part."""
        threshold = self.threshold(measures[self.looks_at[0]])
        return self.model_copy(update={"min_percentile": None, "min_score": threshold})

    def threshold(self, scores: pa.Array) -> float | None:
        """The larger of the two thresholds; None without any."""
        bounds = [] if self.min_score is None else [self.min_score]
        if self.min_percentile is not None and scores.null_count < len(scores):
            bounds.append(pc.quantile(scores, q=self.min_percentile / 100)[0].as_py())
        return max(bounds, default=None)

    def falls_short(self, measures: pa.Table) -> pa.Array:
        """Which rows score below the threshold; null for those without a score."""
        scores = pc.cast(measures[self.looks_at[0]], pa.float64())
        return pc.less(scores, pa.scalar(self.threshold(scores), pa.float64()))


class ImageTextScore(Scored):
    """Drops pictures that their words do not describe, or sends them to be captioned anew (`below: recaption`).

    The measure is the cosine similarity of a sample's first picture with its answer or caption, -1 to 1.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("image_text_score",)
    below: Literal["drop", "recaption"] = "drop"

    def measure_media(self, batch: pa.Table, store: MediaStore) -> dict[str, pa.Array]:
        rows = zip(batch["pictures"].to_pylist(), batch["target"].to_pylist(), strict=True)
        pairs = [[(key, text)] if (key := first_image(pictures)) and text else [] for pictures, text in rows]
        scores = [max(found, default=None) for found in pair_scores(self.model, pairs, store)]
        return {"image_text_score": pa.array(scores, pa.float64())}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((self.falls_short(measures), "image and text do not match"))

    @property
    def route(self) -> str | None:
        return "recaption" if self.below == "recaption" else None


def first_image(pictures: Sequence[dict[str, Any] | None] | None) -> str | None:
    """The key of a sample's first picture, if that is an image that opens."""
    first = (pictures or [None])[0]
    return first["key"] if first and first["kind"] == "image" else None


def pair_scores(model: str, pairs: Sequence[Sequence[tuple[str, str]]], store: MediaStore) -> list[list[float]]:
    """Per row the similarity of each of its pairs (key of an image, text); images that do not open have none.

    Each image is opened once, and no more than a batch is held in memory.
    """
    images = _image_vectors(model, [key for row in pairs for key, _ in row], store)
    texts = list(dict.fromkeys(text for row in pairs for _, text in row))
    words = dict(zip(texts, image_text.embed_texts(model, texts), strict=True))
    return [[float(images[key] @ words[text]) for key, text in row if key in images] for row in pairs]


def _image_vectors(model: str, keys: Sequence[str], store: MediaStore) -> dict[str, image_text.Vectors]:
    found: dict[str, image_text.Vectors] = {}
    distinct = list(dict.fromkeys(keys))
    for at in range(0, len(distinct), image_text.BATCH):
        opened = {
            key: pixels
            for key in distinct[at : at + image_text.BATCH]
            if (pixels := open_image(key, store)) is not None
        }
        found |= dict(zip(opened, image_text.embed_images(model, list(opened.values())), strict=True))
    return found


def open_image(key: str, store: MediaStore) -> Pixels | None:
    """RGB pixels [H, W, 3] of an image; None where it does not open: the probe has its reason."""
    try:
        return decode_image(store.read(key))
    except (MediaError, OSError):
        return None
