"""Faces in pictures, by a YuNet model file (OpenCV zoo, MIT) that the user supplies: no package brings one."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from strict_yaml import RecipeError

Pixels = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.int64]


def require(model: str) -> None:
    """Raises RecipeError, with the fix, where there is no model file."""
    if not Path(model).expanduser().is_file():
        raise RecipeError(f"{model}: no such model; get face_detection_yunet_2023mar.onnx of the OpenCV model zoo")


@functools.cache
def _detector(model: str, min_score: float) -> Any:
    import cv2

    return cv2.FaceDetectorYN.create(str(Path(model).expanduser()), "", (320, 320), min_score)


def detect(pixels: Pixels, model: str, min_score: float) -> Boxes:
    """Faces of an RGB picture [H, W, 3] as boxes [n, 4]: x1, y1, x2, y2 in pixels, within the picture."""
    detector, (height, width) = _detector(model, min_score), pixels.shape[:2]
    detector.setInputSize((width, height))
    found = detector.detect(np.ascontiguousarray(pixels[:, :, ::-1]))[1]
    if found is None:
        return np.empty((0, 4), np.int64)
    corners = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1)
    return np.round(corners).astype(np.int64).clip(0, [width, height, width, height])
