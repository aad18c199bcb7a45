"""Text recognition by Tesseract (Apache-2.0), a program of its own and independent of `models.ocr`."""

import functools
import io
import os
import shutil
import subprocess
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from strict_yaml import RecipeError

_PACKAGES = {"eng": "tesseract-ocr-eng", "chi_sim": "tesseract-ocr-chi-sim"}


def require(languages: Sequence[str]) -> None:
    """Raises RecipeError, with the fix, where Tesseract or one of the languages is not installed."""
    if missing := [language for language in languages if language not in _installed()]:
        packages = " ".join(_PACKAGES.get(language, f"tesseract-ocr-{language}") for language in missing)
        raise RecipeError(f"tesseract cannot read {', '.join(missing)} here; install tesseract-ocr {packages}")


@functools.cache
def _installed() -> frozenset[str]:
    if not shutil.which("tesseract"):
        return frozenset()
    listed = subprocess.run(["tesseract", "--list-langs"], capture_output=True, text=True, check=True)
    return frozenset(listed.stdout.split("\n")[1:])


def read_text(pixels: npt.NDArray[np.uint8], languages: Sequence[str]) -> str:
    """The text of an RGB image [H, W, 3], lines joined by newlines; empty where none is found.

    A margin is added: text that touches the border of a crop is otherwise missed.
    """
    padded = np.pad(pixels, ((16, 16), (16, 16), (0, 0)), mode="edge")
    buffer = io.BytesIO()
    Image.fromarray(padded).save(buffer, "PPM")
    command = ["tesseract", "stdin", "stdout", "-l", "+".join(languages), "--dpi", "96"]
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    done = subprocess.run(command, input=buffer.getvalue(), capture_output=True, check=False, env=environment)
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return "\n".join(line.strip() for line in lines if line.strip())
