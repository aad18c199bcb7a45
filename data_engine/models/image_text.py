"""Image-text similarity by any SigLIP or CLIP checkpoint folder, loaded through transformers, one per process.

A folder counts as a scorer only with evidence: a `retrieval.json` (written by `models.train_two_tower`, or by hand from
its figures) whose held-out retrieval is better than chance by three standard errors, or the recipe's `trusted: true`.
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_engine.models.threads import one_thread
from strict_yaml import RecipeError

EVIDENCE = "retrieval.json"
MIN_STANDARD_ERRORS = 3.0
BATCH = 32

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]


def require(folder: str, trusted: bool) -> None:
    """Raises RecipeError, with the fix, for a folder that is no checkpoint or has not shown that it can score."""
    path = Path(folder).expanduser()
    if not (path / "config.json").is_file():
        raise RecipeError(f"{folder}: no checkpoint (config.json) there; give a SigLIP or CLIP folder")
    if not trusted and standard_errors(path) < MIN_STANDARD_ERRORS:
        raise RecipeError(
            f"{folder}: {EVIDENCE} does not show retrieval better than chance by {MIN_STANDARD_ERRORS:g} standard "
            "errors, and random towers never count as a scorer; for a published checkpoint say trusted: true"
        )


def standard_errors(folder: Path) -> float:
    """By how many standard errors the folder's held-out retrieval is better than chance; 0 without evidence."""
    try:
        return float(json.loads((folder / EVIDENCE).read_text(encoding="utf-8"))["standard_errors_over_chance"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def similarity(folder: str, pictures: Sequence[Pixels], texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """Cosine similarity [n] of each RGB picture [H, W, 3] with the text at the same place, -1 to 1.

    Texts longer than the checkpoint's context are cut to it, as in its training.
    """
    images, words = embed_images(folder, pictures), embed_texts(folder, texts)
    cosine: npt.NDArray[np.float64] = np.einsum("nd,nd->n", images, words).astype(np.float64)
    return cosine


@one_thread()
def embed_images(folder: str, pictures: Sequence[Pixels]) -> Vectors:
    """Unit vectors [n, D] of RGB pictures [H, W, 3]."""
    model, processor, _ = _load(folder)
    batches = [pictures[at : at + BATCH] for at in range(0, len(pictures), BATCH)]
    pixels = (
        processor(images=list(batch), input_data_format="channels_last", return_tensors="pt") for batch in batches
    )
    found = [_unit(model.get_image_features(pixel_values=batch["pixel_values"])) for batch in pixels]
    return np.concatenate([np.empty((0, _dim(model)), np.float32), *found])


@one_thread()
def embed_texts(folder: str, texts: Sequence[str]) -> Vectors:
    """Unit vectors [n, D] of texts; each distinct text is encoded once."""
    model, _, tokenizer = _load(folder)
    distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    length = model.config.text_config.max_position_embeddings
    options = {"padding": "max_length", "max_length": length, "truncation": True, "return_tensors": "pt"}
    found = [np.empty((0, _dim(model)), np.float32)]
    for at in range(0, len(distinct), BATCH):
        tokens = tokenizer(list(distinct)[at : at + BATCH], **options)
        masked = {"attention_mask": tokens["attention_mask"]} if model.config.model_type == "clip" else {}
        found.append(_unit(model.get_text_features(input_ids=tokens["input_ids"], **masked)))
    vectors: Vectors = np.concatenate(found)[[distinct[text] for text in texts]]
    return vectors


@functools.lru_cache(maxsize=2)
def _load(folder: str) -> tuple[Any, Any, Any]:
    """(model, image processor, tokenizer) of a folder; nothing is fetched."""
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    path = Path(folder).expanduser()
    options = {"local_files_only": True}
    model = AutoModel.from_pretrained(path, **options).eval().requires_grad_(False)
    return (
        model,
        AutoImageProcessor.from_pretrained(path, backend="pil", **options),
        AutoTokenizer.from_pretrained(path, **options),
    )


def _dim(model: Any) -> int:
    dim: int = getattr(model.config, "projection_dim", None) or model.config.text_config.hidden_size
    return dim


def _unit(output: Any) -> Vectors:
    vectors = getattr(output, "pooler_output", output).numpy().astype(np.float32)
    unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
