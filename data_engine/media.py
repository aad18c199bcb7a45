"""The content-addressed media store, and the one canonical decode of an image."""

import hashlib
import io
import os
import re
import shutil
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

# Enough for a 10,000 x 8,000 scan; what claims more is refused from its header, before any allocation.
MAX_PIXELS = 80_000_000
_KEY = re.compile(r"[0-9a-f]{64}(\.[a-z0-9]{1,5})?")
_NOTE = re.compile(r"[a-z]{3,16}/[0-9a-f]{64}")


class MediaError(ValueError):
    """A medium that cannot be used; the message is the reason, ready for the quarantine table."""


class MediaStore:
    """One file per distinct content under `root`, named by its SHA-256 and the original suffix."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def path(self, key: str) -> Path:
        """Where `key` is kept. Raises ValueError for what is not a key (so no path can climb out)."""
        if not _KEY.fullmatch(key):
            raise ValueError(f"not a media key: {key!r}")
        return self.root / key[:2] / key

    def read(self, key: str) -> bytes:
        return self.path(key).read_bytes()

    def put_bytes(self, data: bytes, suffix: str) -> str:
        """Keeps `data`, once. Returns its key."""
        key = hashlib.sha256(data).hexdigest() + suffix.lower()
        target = self.path(key)
        if not target.exists():
            with self._incoming(target) as file:
                file.write(data)
            Path(file.name).replace(target)
        return key

    def put_file(self, path: Path) -> str:
        """Keeps a file's content by streaming it (never whole in memory). Returns its key."""
        with path.open("rb") as source:
            key = hashlib.file_digest(source, "sha256").hexdigest() + path.suffix.lower()
        target = self.path(key)
        if not target.exists():
            with self._incoming(target) as file, path.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
            Path(file.name).replace(target)
        return key

    def has(self, key: str) -> bool:
        """Whether `key` is kept."""
        return self.path(key).exists()

    def note(self, name: str) -> bytes | None:
        """A small file about the store's content, such as which address it came from; None if there is none."""
        try:
            return self._note_path(name).read_bytes()
        except FileNotFoundError:
            return None

    def put_note(self, name: str, data: bytes) -> None:
        """Keeps a note, in place of an earlier one of the name (`kind/digest`)."""
        write_atomic(self._note_path(name), data)

    def _note_path(self, name: str) -> Path:
        if not _NOTE.fullmatch(name):
            raise ValueError(f"not a note's name: {name!r}")
        kind, _, digest = name.partition("/")
        return self.root / kind / digest[:2] / digest

    def _incoming(self, target: Path) -> "tempfile._TemporaryFileWrapper[bytes]":
        """A temporary file beside `target`, to be renamed onto it: readers never see half a medium."""
        target.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.NamedTemporaryFile(dir=target.parent, prefix=".incoming-", delete=False)


def open_image(data: bytes) -> Image.Image:
    """Opens an image without decoding it, refusing what is empty, unknown or too large. Raises MediaError."""
    if not data:
        raise MediaError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise MediaError(f"image header claims too many pixels (limit {MAX_PIXELS:,}): {error}") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise MediaError("not an image in any known format") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise MediaError(f"image header claims {width} x {height} pixels; the limit is {MAX_PIXELS:,}")
    return image


def decode_image(data: bytes) -> npt.NDArray[np.uint8]:
    """The canonical decode: upright RGB, uint8, H x W x 3.

    EXIF orientation is applied; transparency is composited on white (cut-outs are drawn for paper);
    16-bit grey keeps its high byte (Pillow's own conversion clips it); palettes and CMYK become RGB;
    of an animation the first frame is used. Raises MediaError with the reason.
    """
    image = open_image(data)
    try:
        image.load()
        image = ImageOps.exif_transpose(image)
        return np.asarray(_to_rgb(image), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        raise MediaError(f"image does not decode: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        cutout = image.convert("RGBA")
        paper = Image.new("RGBA", cutout.size, "white")
        return Image.alpha_composite(paper, cutout).convert("RGB")
    return image.convert("RGB")


def encode_jpeg(pixels: npt.NDArray[np.uint8], quality: int = 92) -> bytes:
    """RGB pixels [H, W, 3] as JPEG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def shrunk(height: int, width: int, max_side: int | None) -> tuple[int, int]:
    """(height, width) with the longer side at most `max_side` (None: as it is), never enlarged."""
    scale = 1.0 if max_side is None else max_side / max(height, width)
    return (height, width) if scale >= 1 else (max(1, round(height * scale)), max(1, round(width * scale)))


def shrink(pixels: npt.NDArray[np.uint8], max_side: int | None) -> npt.NDArray[np.uint8]:
    """The image resized to `shrunk` of its size."""
    height, width = shrunk(pixels.shape[0], pixels.shape[1], max_side)
    if (height, width) == pixels.shape[:2]:
        return pixels
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.asarray(resized)


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a whole file or none: a temporary name in the same folder, then a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    temporary.write_bytes(data)
    temporary.replace(path)
