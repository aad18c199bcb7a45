"""Draws docs/synthesis.png, a few pictures of every generator: run it when what they draw changes.

python tools/synthesis_sheet.py     (needs the demo's corpora: keyeforge demo fetch)
"""

import importlib
import io
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from data_engine.demo_corpora import default_cache
from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Sample

TARGET = Path(__file__).parents[1] / "docs" / "synthesis.png"
WIDTH, HIGH, GAP = 1160, 150, 6
SHOWN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("rendered_text", {"num": {"line": 2, "sign": 3, "icon": 2, "row": 2, "vertical": 3, "receipt": 3}, "seed": 4}),
    ("rendered_text", {"num": {"paragraph": 4, "columns": 2, "sheet": 2}, "seed": 2}),
    ("rendered_documents", {"num": {"markdown": 4, "html": 3, "code": 5}, "lines": [4, 12], "seed": 3}),
    (
        "character_matrix",
        {"num": {"row_left": 4, "place": 4, "segment": 3}, "backgrounds": "backgrounds", "noise": 0.25},
    ),
)


def main() -> None:
    pictures = [picture for form, options in SHOWN for picture in _drawn(form, options)]
    rows: list[list[Image.Image]] = [[]]
    for picture in pictures:
        if sum(one.width + GAP for one in rows[-1]) + picture.width > WIDTH:
            rows.append([])
        rows[-1].append(picture)
    sheet = Image.new("RGB", (WIDTH, (HIGH + GAP) * len(rows)), "white")
    for number, row in enumerate(rows):
        x = 0
        for picture in row:
            sheet.paste(picture, (x, number * (HIGH + GAP)))
            x += picture.width + GAP
    sheet.quantize(64, dither=Image.Dither.NONE).save(TARGET, optimize=True)
    print(f"{TARGET.name}: {len(pictures)} pictures, {TARGET.stat().st_size / 1e3:.0f} kB")


def _drawn(form: str, options: dict[str, Any]) -> list[Image.Image]:
    root, reader = default_cache() / "writing", importlib.import_module(f"data_engine.sources.{form}")
    source = Source(format=form, path=".", modality="image", task="ocr", licence="", options=options)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        store = MediaStore(Path(scratch))
        for unit in reader.units(root, options):
            for sample in reader.read(root, unit, "sheet", source, store):
                assert isinstance(sample, Sample)
                image = Image.open(io.BytesIO(store.read(sample.media[0].key))).convert("RGB")
                image.thumbnail((340, HIGH), Image.Resampling.LANCZOS)
                found.append(image)
    return found


if __name__ == "__main__":
    main()
