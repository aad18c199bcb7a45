"""Embeddings of a part's pictures and of texts, for passes that compare them; without a model there are none."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine.dedup.rows import Part
from data_engine.describe import owners
from data_engine.media import MediaError, MediaStore, decode_image
from data_engine.models import embedding, image_text
from strict_yaml import RecipeError

Ints = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]
_NO_VECTORS = np.empty((0, 0), np.float32)


def texts(model: str | None, words: Sequence[str]) -> embedding.Vectors:
    """Unit vectors [n, D] of texts; no rows without a model."""
    return embedding.embed_texts(model, words) if model and len(words) else _NO_VECTORS


def pictures(model: str | None, shown: Sequence[Pixels]) -> embedding.Vectors:
    """Unit vectors [n, D] of RGB pictures [H, W, 3]; no rows without a model."""
    return embedding.embed_images(model, shown) if model and len(shown) else _NO_VECTORS


def near(
    row: Ints, vectors: embedding.Vectors, known: embedding.Vectors, item: Ints, min_cosine: float
) -> npt.NDArray[np.int64]:
    """All [N, 2] (row, item) whose vectors [n, D] and [m, D] have a cosine above `min_cosine`."""
    if not len(vectors) or not len(known):
        return np.empty((0, 2), np.int64)
    first, second = np.nonzero(vectors @ known.T > min_cosine)
    return np.stack([row[first], item[second]], axis=1)


def near_in_part(
    part: Part, store: Path, model: str, known: embedding.Vectors, item: Ints, min_cosine: float
) -> npt.NDArray[np.int64]:
    """`near` of the pictures that a part's samples show, each opened once; videos and their frames are left out."""
    keys = pq.read_table(part.measures, columns=["media_keys"])["media_keys"]
    hashes = pq.read_table(part.measures, columns=["media_phash"])["media_phash"].combine_chunks().flatten()
    flat = keys.combine_chunks().flatten()
    usable = pc.and_(pc.is_valid(hashes), pc.invert(pc.is_in(flat, value_set=moving([part]))))
    row, shown = owners(keys)[usable.to_numpy(zero_copy_only=False)], flat.filter(usable)
    codes = pc.dictionary_encode(shown)
    picture = codes.indices.to_numpy(zero_copy_only=False)
    found = [np.empty((0, 2), np.int64)]
    for at, vectors in stored_pictures(model, [(key, store) for key in codes.dictionary.to_pylist()]):
        found.append(near(np.arange(at, at + len(vectors)), vectors, known, item, min_cosine))
    pairs = np.concatenate(found)
    order = np.argsort(picture, kind="stable")
    low, high = (np.searchsorted(picture[order], pairs[:, 0], side=side) for side in ("left", "right"))
    showings = [row[order[start:stop]] for start, stop in zip(low, high, strict=True)]
    shown_by = np.concatenate([np.empty(0, np.int64), *showings])
    return np.stack([shown_by, np.repeat(pairs[:, 1], high - low)], axis=1)


def moving(parts: Sequence[Part]) -> pa.Array:
    """The keys of videos, and of those whose frames are shown."""
    found: set[str] = set()
    for part in parts:
        media = pq.read_table(part.samples, columns=["media"])["media"].combine_chunks().flatten()
        video = pc.or_(pc.not_equal(media.field("kind"), "image"), pc.is_valid(media.field("start")))
        found.update(media.field("key").filter(video).to_pylist())
    return pa.array(sorted(found), pa.string())


def stored_pictures(model: str, kept: Sequence[tuple[str, Path]]) -> Iterator[tuple[int, embedding.Vectors]]:
    """(place of the first, vectors) of stored pictures (key, store), a batch at a time. Raises RecipeError for one that
    is no longer there: the probe has read it, so that passing over it would be a silent loss."""
    for at in range(0, len(kept), image_text.BATCH):
        yield at, embedding.embed_images(model, [_opened(*one) for one in kept[at : at + image_text.BATCH]])


def _opened(key: str, store: Path) -> Pixels:
    try:
        return decode_image(MediaStore(store).read(key))
    except (MediaError, OSError) as error:
        raise RecipeError(f"{store}: picture {key} was read before and is not to be had now; restore it") from error
