"""Reads a source as ingest does."""

import io
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Sample
from data_engine.sources.common import Quarantined


def read_all(
    reader: ModuleType,
    root: Path,
    store: MediaStore,
    options: dict[str, Any] | None = None,
    units: Any = None,
) -> tuple[list[Sample], list[Quarantined]]:
    """Everything a reader gives for `units` (default: all), samples and quarantined apart."""
    source = Source(
        format=reader.__name__.rpartition(".")[2],
        path=".",
        modality="image",
        task="task",
        licence="MIT",
        attribution="us",
        options=options or {},
    )
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
