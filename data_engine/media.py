"""The content-addressed media store, and the one canonical decode of an image."""

import hashlib
import io
import math
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import xxhash
from PIL import Image, ImageOps

from model.visual_tokens import MAX_ASPECT_RATIO

# Enough for a 10,000 x 8,000 scan; what claims more is refused from its header, before any allocation.
MAX_PIXELS = 80_000_000
INCOMING = ".incoming-"
_KEY = re.compile(r"[0-9a-f]{64}(\.[a-z0-9]{1,5})?")
_ADDRESS = re.compile(r"(?!file:)([a-z][a-z0-9+]+):/{1,2}")
_NOTE = re.compile(r"[a-z]{3,16}/[0-9a-f]{64}")


class MediaError(ValueError):
    """A medium that cannot be used; the message is the reason, ready for the quarantine table."""


class MediaStore:
    """One file per distinct content, named by its SHA-256 and the original suffix: `root/ab/<sha256>.png`.

    `root` is a folder or an address that fsspec knows (`s3://bucket/prefix`; the endpoint and the keys come from
    the environment: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY). What appears is always whole:
    on a disk by one rename, in an object store by one upload.
    """

    def __init__(self, root: Path | str) -> None:
        # A Path has folded the address's two slashes into one.
        address = _ADDRESS.match(str(root))
        self.remote = RemoteFiles(f"{address[1]}://{str(root)[address.end() :]}") if address else None
        self.root = Path(str(root).removeprefix("file://")) if isinstance(root, str) else root

    def path(self, key: str) -> Path:
        """Where `key` is kept. Raises ValueError for what is not a key (so no path can climb out), and for a
        store that is not on this machine: `local` gives a file there too.
        """
        relative = self._relative(key)
        if self.remote:
            raise ValueError(f"media store {self.remote.address} has no local paths; use MediaStore.local(key)")
        return self.root / relative

    def local(self, key: str) -> Path:
        """A file with the content of `key`: its own place, or a copy kept in the cache of this machine."""
        return self.remote.local(self._relative(key)) if self.remote else self.path(key)

    def has(self, key: str) -> bool:
        """Whether `key` is kept."""
        return self.remote.has(self._relative(key)) if self.remote else self.path(key).exists()

    def read(self, key: str) -> bytes:
        """The content of `key`. Raises FileNotFoundError."""
        return self.remote.read(self._relative(key)) if self.remote else self.path(key).read_bytes()

    def put_bytes(self, data: bytes, suffix: str) -> str:
        """Keeps `data`, once. Returns its key."""
        key = hashlib.sha256(data).hexdigest() + suffix.lower()
        if self.has(key):
            return key
        if self.remote:
            self.remote.write(self._relative(key), data)
        else:
            with incoming(self.path(key)) as file:
                file.write(data)
        return key

    def put_file(self, path: Path) -> str:
        """Keeps a file's content by streaming it (never whole in memory). Returns its key."""
        with path.open("rb") as source:
            key = hashlib.file_digest(source, "sha256").hexdigest() + path.suffix.lower()
        if self.has(key):
            return key
        if self.remote:
            self.remote.upload(path, self._relative(key))
        else:
            with incoming(self.path(key)) as file, path.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
        return key

    def discard(self, key: str) -> None:
        """Forgets `key`, if it is kept."""
        if self.remote:
            self.remote.discard(self._relative(key))
        else:
            self.path(key).unlink(missing_ok=True)

    def note(self, name: str) -> bytes | None:
        """A small file about the store's content, such as which address it came from; None if there is none."""
        relative = self._note(name)
        try:
            return self.remote.read(relative) if self.remote else (self.root / relative).read_bytes()
        except FileNotFoundError:
            return None

    def put_note(self, name: str, data: bytes) -> None:
        """Keeps a note, in place of an earlier one of the name (`kind/digest`)."""
        relative = self._note(name)
        if self.remote:
            self.remote.write(relative, data)
        else:
            write_atomic(self.root / relative, data)

    def notes(self, kind: str) -> list[str]:
        """The names of all notes of a kind."""
        if self.remote:
            return [f"{kind}/{name.rpartition('/')[2]}" for name in self.remote.list(kind)]
        return sorted(
            f"{kind}/{path.name}" for path in (self.root / kind).glob("*/*") if _NOTE.fullmatch(f"{kind}/{path.name}")
        )

    def _relative(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise ValueError(f"not a media key: {key!r}")
        return f"{key[:2]}/{key}"

    def _note(self, name: str) -> str:
        if not _NOTE.fullmatch(name):
            raise ValueError(f"not a note's name: {name!r}")
        kind, _, digest = name.partition("/")
        return f"{kind}/{digest[:2]}/{digest}"


ADDRESS_FILE = "media_store.txt"


def store_of(run: Path) -> Path:
    """Where a run keeps its media: `run/media`, or the address that its recipe named (see `keep_in`)."""
    noted = run / ADDRESS_FILE
    return Path(noted.read_text().strip()) if noted.exists() else run / "media"


def keep_in(run: Path, address: str | None) -> None:
    """From now on the run keeps its media there (None: `run/media`). Raises ValueError where it has some elsewhere."""
    known = store_of(run)
    wanted = run / "media" if address is None else Path(address)
    if known != wanted and (known != run / "media" or known.exists()):
        raise ValueError(f"media: {run} keeps its media in {known}; copy them to {wanted} and correct {ADDRESS_FILE}")
    if address is not None:
        write_atomic(run / ADDRESS_FILE, f"{address}\n".encode())


class RemoteFiles:
    """Files of an object store, by their names below `address`; `local` copies are kept in `cache`."""

    def __init__(self, address: str, cache: Path | None = None) -> None:
        import fsspec  # type: ignore[import-untyped]

        self.address = address.rstrip("/")
        # Never listed: what is there is asked of the store, not of a listing from a while ago.
        self._files, self._base = fsspec.core.url_to_fs(self.address, use_listings_cache=False)
        digest = hashlib.sha256(self.address.encode()).hexdigest()[:16]
        self._cache = cache or Path.home() / ".cache" / "keyeforge" / "media" / digest

    def has(self, name: str) -> bool:
        return bool(self._files.exists(f"{self._base}/{name}"))

    def read(self, name: str) -> bytes:
        data: bytes = self._files.cat_file(f"{self._base}/{name}")
        return data

    def write(self, name: str, data: bytes) -> None:
        self._files.pipe_file(f"{self._base}/{name}", data)

    def list(self, folder: str) -> list[str]:
        """The names of all files in a folder and below it."""
        try:
            return sorted(self._files.find(f"{self._base}/{folder}"))
        except FileNotFoundError:
            return []

    def sizes(self) -> dict[str, int]:
        """The bytes of every file below the address, by its name."""
        try:
            found = self._files.find(self._base, detail=True)
        except FileNotFoundError:
            return {}
        return {name.removeprefix(self._base).lstrip("/"): about["size"] for name, about in found.items()}

    def discard(self, name: str) -> None:
        if self.has(name):
            self._files.rm_file(f"{self._base}/{name}")
        (self._cache / name).unlink(missing_ok=True)

    def upload(self, path: Path, name: str) -> None:
        """By pieces, where it is large: the object appears when the last one has arrived."""
        self._files.put_file(str(path), f"{self._base}/{name}")

    def local(self, name: str) -> Path:
        """A whole copy on this machine, fetched once."""
        target = self._cache / name
        if not target.exists():
            with incoming(target) as file:
                self._files.get_file(f"{self._base}/{name}", file.name)
        return target


@contextmanager
def incoming(target: Path) -> Iterator[IO[bytes]]:
    """A temporary file beside `target` that becomes it at the end: readers never see half a file.

    Its name is drawn, so that two attempts at one partition, on whatever machines, never write into one file. A
    process that is killed leaves it behind (`INCOMING`).
    """
    partial = f"{target.parent}/{INCOMING}{os.urandom(8).hex()}"
    try:
        file = open(partial, "xb")  # noqa: PTH123, SIM115 - a third faster than through Path, and closed below
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = open(partial, "xb")  # noqa: PTH123, SIM115
    try:
        with file:
            yield file
        os.replace(partial, target)  # noqa: PTH105
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


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
    except Exception as error:  # a decoder raises whatever its code meets in damaged bytes
        raise MediaError("not an image in any known format") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise MediaError(f"image header claims {width} x {height} pixels; the limit is {MAX_PIXELS:,}")
    return image


def num_frames(image: Image.Image) -> int:
    """Frames of an opened image, 1 unless it is an animation or has pages. Raises MediaError.

    A phone's JPEG that brings a preview or a depth map along (MPO) is one picture.
    """
    if image.format == "MPO":
        return 1
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception as error:  # as in `open_image`
        raise MediaError(f"its frames cannot be counted: {str(error) or type(error).__name__}") from error


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of an opened image as it is to be seen. Raises MediaError."""
    try:
        return image.size[::-1] if image.getexif().get(0x0112, 1) > 4 else image.size  # stored lying
    except Exception as error:  # as in `open_image`
        raise MediaError(f"its EXIF data cannot be read: {str(error) or type(error).__name__}") from error


def decode_image(data: bytes) -> npt.NDArray[np.uint8]:
    """The canonical decode: upright RGB, uint8, H x W x 3.

    EXIF orientation is applied; transparency is composited on white (cut-outs are drawn for paper);
    16-bit grey keeps its high byte (Pillow's own conversion clips it); palettes and CMYK become RGB;
    of an animation the first frame is used. Raises MediaError with the reason.
    """
    image = open_image(data)
    try:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)  # no copy of what is upright
        return np.asarray(_to_rgb(image), dtype=np.uint8)
    except Exception as error:  # as in `open_image`
        raise MediaError(f"image does not decode: {str(error) or type(error).__name__}") from error


def decode_grey(data: bytes, min_side: int) -> npt.NDArray[np.uint8]:
    """An upright grey thumbnail, uint8, h x w: of a JPEG by its decoder's own scaling (whole blocks become a pixel or
    a few), no side below `min_side` unless it is in the file; of other formats the canonical decode in grey.

    Raises MediaError as `decode_image` does: the whole file is read, whatever the scale.
    """
    image = open_image(data)
    try:
        image.draft("L", (min_side, min_side))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        plain = image.mode == "L" and "transparency" not in image.info
        return np.asarray(image if plain else _to_rgb(image).convert("L"), dtype=np.uint8)
    except Exception as error:  # as in `open_image`
        raise MediaError(f"image does not decode: {str(error) or type(error).__name__}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
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
    if scale >= 1:
        return height, width
    least = math.ceil(max(height, width) * scale / MAX_ASPECT_RATIO)  # rounding must not make a strip too narrow
    return max(least, round(height * scale)), max(least, round(width * scale))


def shrink(pixels: npt.NDArray[np.uint8], max_side: int | None) -> npt.NDArray[np.uint8]:
    """The image resized to `shrunk` of its size."""
    height, width = shrunk(pixels.shape[0], pixels.shape[1], max_side)
    if (height, width) == pixels.shape[:2]:
        return pixels
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.asarray(resized)


def add_files(digest: xxhash.xxh3_128, base: Path, files: Sequence[Path]) -> None:
    """Adds files' names, relative to `base`, and their contents to a digest; of one that cannot be read the reason."""
    for file in files:
        digest.update(os.fsencode(file.relative_to(base)))
        try:
            with file.open("rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
        except OSError as error:  # whoever reads it says so
            digest.update(str(error).encode())


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a whole file or none: a temporary name in the same folder, then a rename."""
    with incoming(path) as file:
        file.write(data)
