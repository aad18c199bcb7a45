"""Which of a few films show the same pictures: copies, and pieces of one another."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from data_engine import frames, video
from data_engine.dedup.video import Clips, Video, containments
from data_engine.media import MediaStore
from data_engine.synthesis.video_truth import Film

FPS, _SIDE = 1.0, 224
Hashes = npt.NDArray[np.uint64]


def with_twins(films: Sequence[Film], store: MediaStore) -> list[Film]:
    """The films, each with the keys of those that show the same. A film is decoded once; its hashes stay noted."""
    keys = list(dict.fromkeys(film.key for film in films))
    hashes = [hashes_of(key, store) for key in keys]
    start = np.concatenate([[0], np.cumsum([len(found) for found in hashes])]).astype(np.int64)
    whole, number = np.full(len(keys), np.inf), np.arange(len(keys), dtype=np.int64)
    clips = Clips(number, np.zeros(len(keys)), whole, np.concatenate(hashes), start, number, number)
    pairs = [(keys[a], keys[b]) for a, b in zip(*containments(clips, Video()), strict=True)]
    twins = {key: frozenset({a for a, b in pairs if b == key} | {b for a, b in pairs if a == key}) for key in keys}
    return [replace(film, twins=twins[film.key]) for film in films]


def hashes_of(key: str, store: MediaStore) -> Hashes:
    """The hashes of a film's frames, one a second. Raises MediaError."""
    name = f"framehashes/{key[:64]}"
    if (noted := store.note(name)) is None:
        path = store.local(key)
        shown = video.sample_frames(path, video.probe(path), fps=FPS, max_side=_SIDE)
        noted = np.array([frames.frame_hash(pixels) for pixels in shown], np.uint64).tobytes()
        store.put_note(name, noted)
    return np.frombuffer(noted, np.uint64)
