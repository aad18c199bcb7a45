"""The benchmark as files: pictures, frames, items.jsonl and a sheet to look at."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_engine.clips import Clip
from eval.minibench.items import Item
from eval.minibench.sheet import sheet


class ExportError(ValueError):
    """A folder that cannot be written to; the message names it and the fix."""


def export(items: Sequence[Item], out: Path) -> Path:
    """Writes `out`/items.jsonl, `out`/media/, `out`/blank/ and `out`/sheet.png. Returns `out`.

    A picture is `<id>.png`, a clip a folder `<id>` of frames `000.jpg`, …, named in items.jsonl with its times
    (seconds) and labels. Raises ExportError where `out` exists: two exports are never mixed.
    """
    if out.exists():
        raise ExportError(f"{out}: exists already; give another folder with --out or remove it")
    hidden = out.with_name(f".{out.name}.incoming")
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    rows = [_row(item, hidden) for item in items]
    (hidden / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    sheet(items).save(hidden / "sheet.png", optimize=True)
    hidden.rename(out)
    return out


def _row(item: Item, root: Path) -> dict[str, Any]:
    words = {key: getattr(item, key) for key in ("id", "kind", "form", "question", "answer", "choices")}
    return {
        **words,
        "media": _write(item.media, "media", item.id, root),
        "blank": _write(item.blank, "blank", item.id, root),
    }


def _write(media: bytes | Clip, folder: str, name: str, root: Path) -> dict[str, Any]:
    """Writes a picture or a clip's frames. Returns what items.jsonl says of it, paths relative to `root`."""
    if isinstance(media, bytes):
        path = f"{folder}/{name}.png"
        frames = {path: media}
        row: dict[str, Any] = {"picture": path}
    else:
        frames = {f"{folder}/{name}/{index:03}.jpg": frame for index, frame in enumerate(media.frames)}
        row = {"frames": list(frames), "times": media.times, "is_slow": media.is_slow}
    for path, content in frames.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return row
