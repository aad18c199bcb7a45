"""Pictures as a teacher is shown them: what the canonical decode gives, as a data URL."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from data_engine import clips
from data_engine.media import MediaStore, decode_image, encode_jpeg, shrink
from data_engine.teachers.request import Image


class Pictures:
    """Opens the pictures of requests: images of `store`, and frames of videos from `frames` (what a run's frames step
    left, one Parquet file a video).
    """

    def __init__(self, store: MediaStore, frames: Path | None = None) -> None:
        self.store = store
        self.frames = frames

    def is_near(self, image: Image) -> bool:
        """Whether opening it takes no waiting: a file on this machine."""
        return self.store.remote is None and image.media.start is None

    def read(self, image: Image) -> bytes:
        """The file's bytes. Raises OSError, or ValueError for what is no image or frame."""
        if image.media.kind != "image":
            raise ValueError(f"{image.media.key}: a teacher is shown images, and of a video single frames")
        if image.media.start is None:
            return self.store.read(image.media.key)
        if self.frames is None:
            raise ValueError(f"{image.media.key}: a frame is to be shown, and no folder of frames was given")
        return clips.span(self.frames, image.media)[0]


def is_plain(data: bytes) -> bool:
    """Whether every decoder shows these bytes as `media.decode_image` does: a JPEG or an opaque 8-bit PNG that stands
    upright. A cut-out, for one, has whatever colour beneath, and only some decoders turn what lies on its side.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return not _has_exif(data)
    if not data.startswith(b"\x89PNG") or data[24:25] > b"\x08" or data[25:26] not in (b"\0", b"\2", b"\3"):
        return False
    return all(name not in (b"tRNS", b"eXIf") for name in _png_chunks(data))


def _has_exif(data: bytes) -> bool:
    """Whether one of a JPEG's segments before the picture itself is EXIF (APP1)."""
    at = 2
    while at + 8 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0xD9, 0xDA):
        if data[at + 1] == 0xE1 and data[at + 4 : at + 8] == b"Exif":
            return True
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    return False


def _png_chunks(data: bytes) -> Iterator[bytes]:
    at = 8
    while at + 8 <= len(data):
        yield data[at + 4 : at + 8]
        at += 12 + int.from_bytes(data[at : at + 4], "big")


def data_url(data: bytes, max_side: int | None) -> tuple[bytes, bytes]:
    """Head and content of the picture's data URL: as it is where that is enough, else its canonical decode (as PNG, if
    it was no JPEG).

    Raises MediaError.
    """
    is_jpeg = data.startswith(b"\xff\xd8\xff")
    if max_side is not None or not is_plain(data):
        pixels = shrink(decode_image(data), max_side)
        data = encode_jpeg(pixels, quality=95) if is_jpeg else _png(pixels)
    return b"data:image/jpeg;base64," if is_jpeg else b"data:image/png;base64,", base64.b64encode(data)


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
