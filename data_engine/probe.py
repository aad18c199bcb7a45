"""Every medium is opened, decoded and measured once; what cannot be used is set aside with its reason."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_engine import image_measures, video
from data_engine.frames import jpeg_at, signals, write
from data_engine.media import MediaError, MediaStore, decode_image, num_frames, open_image
from data_engine.recipe import Frames
from model.visual_tokens import MAX_ASPECT_RATIO

MEDIA_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("kind", pa.string()),
        ("format", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("duration", pa.float64()),
        ("fps", pa.float64()),
        ("phash", pa.uint64()),
        ("pixel_hash", pa.string()),
        ("entropy", pa.float64()),
        ("sharpness", pa.float64()),
        ("luma", pa.float64()),
        ("motion", pa.float64()),
        ("frames", pa.int32()),
    ]
)
BAD_SCHEMA = pa.schema([("key", pa.string()), ("reason", pa.string())])


def probe_partition(table: pa.Table, *, store: Path, frames: Path, config: Frames) -> dict[str, pa.Table]:
    """Rows of (key, kind) to the tables `media` and `bad`; a video's sampled frames go to `frames/<key>`."""
    media: list[dict[str, Any]] = []
    bad: list[dict[str, str]] = []
    for row in table.to_pylist():
        key, kind = row["key"], row["kind"]
        try:
            if kind == "image":
                found = probe_image(MediaStore(store).read(key))
            else:
                found = probe_video(MediaStore(store).local(key), key, frames, config)
            media.append({"key": key, "kind": kind, **found})
        except MediaError as error:
            bad.append({"key": key, "reason": str(error)})
    return {
        "media": pa.Table.from_pylist(media, schema=MEDIA_SCHEMA),
        "bad": pa.Table.from_pylist(bad, schema=BAD_SCHEMA),
    }


def unreadable(table: pa.Table, reason: str) -> dict[str, pa.Table]:
    """The tables of `probe_partition` for media that cannot even be tried."""
    bad = [{"key": key, "reason": reason} for key in table["key"].to_pylist()]
    return {"media": MEDIA_SCHEMA.empty_table(), "bad": pa.Table.from_pylist(bad, schema=BAD_SCHEMA)}


def _check_shape(width: int, height: int) -> None:
    """Raises MediaError for a strip that no model can be shown, whatever its budget."""
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise MediaError(f"{width} x {height} pixels: one side is more than {MAX_ASPECT_RATIO} times the other")


def probe_image(data: bytes) -> dict[str, Any]:
    """Measures of an image. Raises MediaError.

    One whole decode serves all measures. The hash takes its grey from there too: averaging what is at hand costs a
    third of what the scaled decode of `phash_file` would cost on top.
    """
    header = open_image(data)
    _check_shape(*header.size)
    found = {"format": str(header.format).lower(), "frames": num_frames(header)}
    return {**found, **image_measures.measure(decode_image(data))}


def probe_video(path: Path, key: str, frames: Path, config: Frames) -> dict[str, Any]:
    """Measures of a video; its frames at the recipe's rate are kept, small, in `frames/<key>.parquet`.

    `phash`, `entropy` and `sharpness` are those of the middle frame. Raises MediaError.
    """
    info = video.probe(path)
    _check_shape(*video.fitted(info.width, info.height, config.max_side))
    sampled = video.sample_frames(path, info, fps=config.fps, max_side=config.max_side)
    kept = frames / f"{key}.parquet"
    count = write(sampled, key, config.fps, kept)
    if not count:
        kept.unlink()
        raise MediaError("video holds no frame")
    middle = image_measures.measure(decode_image(jpeg_at(kept, count // 2 / config.fps)))
    seen = signals(kept)
    return {
        **{name: middle[name] for name in ("phash", "pixel_hash", "entropy", "sharpness")},
        "format": info.format,
        "width": info.width,
        "height": info.height,
        "duration": info.duration,
        "fps": info.fps,
        "luma": float(seen.luma.mean()),
        "motion": float(np.nanmean(seen.motion)) if count > 1 else 0.0,
    }
