"""A model's folder behind an OpenAI-compatible address: transformers' own server, told of this model."""

import base64
import binascii
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from transformers import AutoModelForMultimodalLM, AutoProcessor
from transformers.models.auto import modeling_auto

from model import processing
from model.chat import ChatError
from model.configuration import KeyeConfig
from model.modeling import KeyeForConditionalGeneration
from model.processing import ProcessingError


class KeyeProcessor(processing.KeyeProcessor):
    """The model's processor, for pictures that come as data URLs; of the same name, as a folder names its processor.

    Addresses and paths are refused: who may ask a question may not make this machine open what it can reach.
    """

    def __call__(self, text: str | Sequence[str], images: Any = None, videos: Any = None, **options: Any) -> Any:
        """As the model's own, with data URLs for images. Raises HTTPException (400) for a request that is at fault."""
        from fastapi import HTTPException

        try:
            shown = [_opened(one) for one in _flat(images or ())]
            return super().__call__(text, shown or None, videos, **options)
        except ValueError as error:  # of the picture, the prompt or the visual tokens
            raise HTTPException(400, str(error)) from error


def _flat(images: Any) -> list[Any]:
    return [one for image in images for one in (_flat(image) if isinstance(image, list | tuple) else [image])]


def _opened(image: Any) -> Image.Image:
    """Raises ProcessingError for what is no picture in a data URL."""
    head, _, data = str(image).partition(";base64,")
    if not head.startswith("data:image/"):
        raise ProcessingError(f"{str(image)[:40]!r}: pictures come as data URLs (data:image/...;base64,...)")
    try:
        return Image.open(io.BytesIO(base64.b64decode(data, validate=True))).convert("RGB")
    except (binascii.Error, UnidentifiedImageError, OSError) as error:
        raise ProcessingError(f"{head}: a data URL that holds no picture") from error


def register() -> None:
    """Tells transformers' server of this model and its processor."""
    AutoModelForMultimodalLM.register(KeyeConfig, KeyeForConditionalGeneration, exist_ok=True)
    names = modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES
    names[KeyeConfig.model_type] = KeyeForConditionalGeneration.__name__
    AutoProcessor.register(KeyeConfig, KeyeProcessor, exist_ok=True)


def serve(folder: Path, host: str, port: int) -> None:
    """Serves until it is told to end: chat completions with text and pictures, without log-probabilities.

    The model's name is `folder` as given. Raises ChatError.
    """
    if not (folder / "config.json").is_file():
        raise ChatError(f"{folder}: no config.json, so no model's folder")
    try:
        import fastapi  # noqa: F401
        import openai  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ChatError(f"serving needs {error.name}: pip install keyeforge[serve]") from error
    import typer
    from transformers.cli.serve import Serve

    register()
    app = typer.Typer()
    app.command()(Serve)
    app([str(folder), "--host", host, "--port", str(port)])
