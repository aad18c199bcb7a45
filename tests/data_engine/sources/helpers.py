"""Reads a source as ingest does."""

from pathlib import Path
from types import ModuleType
from typing import Any

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
