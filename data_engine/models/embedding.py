"""Unit vectors of texts and of pictures by a checkpoint folder, loaded through transformers; nothing is fetched.

Texts: any encoder folder, its last hidden states averaged over the text's tokens (sentence-transformers' mean pooling),
or the text tower of a SigLIP or CLIP folder. Pictures: a SigLIP or CLIP folder.
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xxhash

from data_engine.media import add_files
from data_engine.models import image_text
from strict_yaml import RecipeError

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]


def require(folder: str, of: Literal["text", "image"], trusted: bool) -> None:
    """Raises RecipeError, with the fix, for a folder that cannot give such vectors or has not shown that they mean
    something (`image_text.require`: evidence of its own, or `trusted: true`)."""
    image_text.require(folder, trusted)
    if of == "image" and not _two_towers(folder):
        raise RecipeError(f"{folder}: config.json tells of no vision tower; pictures need a SigLIP or CLIP folder")


def fingerprint(folder: str) -> str:
    """A hash of all files of a checkpoint folder: what a step's identity knows of a model."""
    digest = xxhash.xxh3_128()
    path = Path(folder).expanduser()
    add_files(digest, path, sorted(file for file in path.rglob("*") if file.is_file()))
    return digest.hexdigest()


def embed_images(folder: str, pictures: Sequence[Pixels]) -> Vectors:
    """Unit vectors [n, D] of RGB pictures [H, W, 3]."""
    return image_text.embed_images(folder, pictures)


def embed_texts(folder: str, texts: Sequence[str]) -> Vectors:
    """Unit vectors [n, D] of texts, each distinct one encoded once. What is longer than the checkpoint's context is
    read up to it."""
    if _two_towers(folder):
        return image_text.embed_texts(folder, texts)
    model, tokenizer, context = _encoder(folder)
    distinct = sorted(dict.fromkeys(texts), key=lambda text: (len(text), text))  # alike in length: little padding
    found = [np.empty((0, model.config.hidden_size), np.float32)]
    for at in range(0, len(distinct), image_text.BATCH):
        batch = distinct[at : at + image_text.BATCH]
        tokens = tokenizer(batch, padding=True, truncation=True, max_length=context, return_tensors="pt")
        found.append(_mean_pooled(model(**tokens).last_hidden_state.numpy(), tokens["attention_mask"].numpy()))
    place = {text: number for number, text in enumerate(distinct)}
    vectors: Vectors = np.concatenate(found)[[place[text] for text in texts]]
    return vectors


def _mean_pooled(hidden: npt.NDArray[np.float32], mask: npt.NDArray[np.int64]) -> Vectors:
    """Unit vectors [n, D] of hidden states [n, L, D], averaged where `mask` [n, L] is 1."""
    total = np.einsum("nld,nl->nd", hidden, mask.astype(np.float32))
    unit: Vectors = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
    return unit


def _two_towers(folder: str) -> bool:
    config = json.loads((Path(folder).expanduser() / "config.json").read_text(encoding="utf-8"))
    return "vision_config" in config


@functools.lru_cache(maxsize=2)
def _encoder(folder: str) -> tuple[Any, Any, int]:
    """(model, tokenizer, longest text in tokens) of an encoder's folder."""
    from transformers import AutoModel, AutoTokenizer

    path = Path(folder).expanduser()
    model = AutoModel.from_pretrained(path, local_files_only=True).eval().requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    return model, tokenizer, min(tokenizer.model_max_length, model.config.max_position_embeddings)
