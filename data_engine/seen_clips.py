"""What is known of the clips that samples show: measures of the spans, not of the files they are cut from."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_engine.frames import Signals, signals

CLIP = pa.struct(
    [("key", pa.string()), ("start", pa.float64()), ("end", pa.float64()), ("hashes", pa.list_(pa.uint64()))]
)
BLACK = 16.0
"""Mean grey level of a frame, of 255, below which it is black."""
STILL = 0.5
"""Mean absolute difference from the frame before, of 255, below which nothing moves; coding alone makes as much."""
_NUMBERS = ("duration", "luma", "motion", "static_share", "black_share")


def seen_clips(media: pa.ChunkedArray, frames: Path) -> dict[str, pa.Array]:
    """Per sample, of all spans of videos it shows together: `duration` in seconds, `luma` and `motion` on 0..255, the
    shares of still and of black frames; and `clips`, the spans with the hashes of their frames (0: too plain to tell).

    Null, and no clips, where it shows none or none could be read.
    """
    found = [_of_sample(row, frames) for row in media.to_pylist()]
    columns = {name: pa.array([row.get(name) for row in found], pa.float64()) for name in _NUMBERS}
    return {**columns, "clips": pa.array([row.get("clips", []) for row in found], pa.list_(CLIP))}


def _of_sample(media: list[dict[str, Any]], frames: Path) -> dict[str, Any]:
    clips, parts, seconds = [], list[Signals](), 0.0
    for item in media:
        path = frames / f"{item['key']}.parquet"
        if item["kind"] != "video" or not path.exists():
            continue
        whole = signals(path)
        seen = whole.between(item["start"], item["end"])
        if len(seen.time):
            clips.append({**{name: item[name] for name in ("key", "start", "end")}, "hashes": seen.hash})
            parts.append(seen)
            last = whole.time[-1] + _step(whole)
            seconds += (last if item["end"] is None else item["end"]) - (item["start"] or 0.0)
    if not parts:
        return {}
    luma, motion = np.concatenate([part.luma for part in parts]), np.concatenate([part.motion for part in parts])
    moved = motion[~np.isnan(motion)]
    return {
        "clips": clips,
        "duration": float(seconds),
        "luma": float(luma.mean()),
        "motion": float(moved.mean()) if len(moved) else 0.0,
        "static_share": float((moved < STILL).mean()) if len(moved) else 1.0,
        "black_share": float((luma < BLACK).mean()),
    }


def _step(whole: Signals) -> float:
    """Seconds that a frame stands."""
    return float(whole.time[1] - whole.time[0]) if len(whole.time) > 1 else 0.0
