"""What the tests of drawn corpora share: reading a source whole, and comparing what is read with what is written."""

import importlib
import io
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rapidfuzz.distance import Levenshtein

from data_engine.media import MediaStore
from data_engine.models.ocr import read_text
from data_engine.recipe import Source
from data_engine.sample import Sample
from data_engine.sources.common import Quarantined
from model.visual_tokens import CONTROL_TOKENS


def read_all(root: Path, store: MediaStore, form: str, **options: Any) -> tuple[list[Sample], list[Quarantined]]:
    """All samples of a source whose path is `root`; none may hold a control token."""
    reader = importlib.import_module(f"data_engine.sources.{form}")
    source = Source(format=form, path=".", modality="image", task="ocr", licence="MIT", options=options)
    found = [item for unit in reader.units(root, options) for item in reader.read(root, unit, "drawn", source, store)]
    samples = [item for item in found if isinstance(item, Sample)]
    assert not any(token in sample.text for sample in samples for token in CONTROL_TOKENS)
    return samples, [item for item in found if isinstance(item, Quarantined)]


def pixels(sample: Sample, store: MediaStore) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(store.read(sample.media[0].key))).convert("RGB"))


def answer(sample: Sample) -> str:
    return sample.messages[-1].text


def question(sample: Sample) -> str:
    return sample.messages[0].text


def seen(image: np.ndarray) -> str:
    """What rapidocr reads. It looks at 960 pixels a side at most: what is larger is read in overlapping bands."""
    if image.shape[0] <= 1000 and image.shape[1] <= 1000:
        return read_text(image).text
    bands = range(0, image.shape[0], 800)
    return "\n".join(read_text(image[start : start + 800]).text for start in bands)


def agreement(written: str, read: str) -> float:
    """The share of characters in which both agree, in whatever order their lines are: 0 to 1."""
    one, other = ("".join(sorted("".join(unicodedata.normalize("NFKC", text).split()))) for text in (written, read))
    return Levenshtein.normalized_similarity(one, other)
