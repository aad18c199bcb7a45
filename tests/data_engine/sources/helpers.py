"""Reads a source as ingest does."""

import io
import struct
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Sample
from data_engine.sources.common import Quarantined


def source_for(reader: ModuleType, options: dict[str, Any]) -> Source:
    return Source(
        format=reader.__name__.rpartition(".")[2],
        path=".",
        modality="image",
        task="task",
        licence="MIT",
        attribution="us",
        options=options,
    )


def read_all(
    reader: ModuleType,
    root: Path,
    store: MediaStore,
    options: dict[str, Any] | None = None,
    units: Any = None,
) -> tuple[list[Sample], list[Quarantined]]:
    """Everything a reader gives for `units` (default: all), samples and quarantined apart."""
    source = source_for(reader, options or {})
    names = units if units is not None else reader.units(root, source.options)
    found = [record for unit in names for record in reader.read(root, unit, "corpus", source, store)]
    good = [record for record in found if isinstance(record, Sample)]
    return good, [record for record in found if isinstance(record, Quarantined)]


def png(width: int = 8, height: int = 8, shade: int = 0) -> bytes:
    """A PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def reasons(bad: list[Quarantined]) -> dict[str, tuple[str, str]]:
    """(field, reason) by locator."""
    return {record.locator: (record.field, record.reason) for record in bad}


def huge_png() -> bytes:
    """A PNG of a few bytes whose header claims 100,000 x 100,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
