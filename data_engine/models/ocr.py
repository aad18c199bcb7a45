"""Text recognition by rapidocr (PP-OCR models inside the wheel; Apache-2.0), one engine per process."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class OcrResult:
    """Lines in reading order joined by newlines, their mean confidence (0 to 1; None: no text), and how many.

    `boxes`: per line x1, y1, x2, y2 in pixels, the upright rectangle around the line's four corners; `scores`: its
    confidence.
    """

    text: str
    score: float | None
    num_lines: int
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    scores: tuple[float, ...] = ()


@functools.cache
def _engine() -> Any:
    import logging

    from rapidocr import RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    # The default enlarges the shorter side to 736 pixels: a line of text 20 pixels high becomes 26 times
    # as large, 20 times as slow, and is then missed. Only large images are scaled here, downwards.
    size = {"Det.limit_type": "max", "Det.limit_side_len": 960}
    threads = {"EngineConfig.onnxruntime.intra_op_num_threads": 1}
    return RapidOCR(params={**threads, **size, "Global.log_level": "error"})


def read_text(pixels: npt.NDArray[np.uint8]) -> OcrResult:
    """Reads the text of an RGB image [H, W, 3]."""
    result = _engine()(pixels[:, :, ::-1])
    if not result.txts:
        return OcrResult("", None, 0)
    scores = [float(score) for score in result.scores]
    text = "\n".join(" ".join(line.splitlines()) for line in result.txts)
    boxes = tuple(map(_upright, result.boxes))
    return OcrResult(text, sum(scores) / len(scores), len(result.txts), boxes, tuple(scores))


def _upright(corners: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    (x1, y1), (x2, y2) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return x1, y1, x2, y2
