"""Records in: units of a source read into samples, and what cannot be read into quarantine."""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from data_engine import sample as samples
from data_engine.media import MediaStore, add_files
from data_engine.recipe import Corpus, Source
from data_engine.sample import Sample
from data_engine.sources.common import Quarantined, inside
from data_engine.tombstones import Tombstone, tombstoned

UNIT_SCHEMA = pa.schema([("source", pa.int32()), ("unit", pa.string())])
QUARANTINE_SCHEMA = pa.schema([(name, pa.string()) for name in ("corpus", "source", "locator", "field", "reason")])
FORMATS = (
    "captions",
    "character_matrix",
    "coco",
    "conversations",
    "html",
    "images",
    "pdf",
    "pdf_pages",
    "queue",
    "release",
    "rendered_documents",
    "rendered_text",
    "tables",
    "text",
    "urls",
    "video_truth",
    "videos",
    "webdataset",
)


def reader(source: Source) -> ModuleType:
    """The reader module of a source's format."""
    return importlib.import_module(f"data_engine.sources.{source.format}")


def list_units(corpus: Corpus, root: Path) -> pa.Table:
    """Every unit of every source of a corpus, in order: what ingestion is partitioned by."""
    rows = [
        {"source": number, "unit": unit}
        for number, source in enumerate(corpus.sources)
        for unit in reader(source).units(inside(root, source.path), source.options)
    ]
    return pa.Table.from_pylist(rows, schema=UNIT_SCHEMA)


def ingest_partition(
    table: pa.Table, *, corpus: Corpus, root: Path, store: Path, removed: Sequence[Tombstone] = ()
) -> dict[str, pa.Table]:
    """Units to the tables `samples` and `quarantine`. No record stops the run: its fault is its row.

    What was `removed` for good is not taken in again, nor are its media kept.
    """
    found: list[Sample] = []
    refused: list[dict[str, Any]] = []
    for row in table.to_pylist():
        source = corpus.sources[row["source"]]
        for item in _read(row["unit"], corpus, source, root, MediaStore(store)):
            if isinstance(item, Sample):
                found.append(item)
            else:
                refused.append({**asdict(item), "source": source.path})
    taken = samples.to_table(found)
    if removed:
        taken, gone = _without(taken, removed, MediaStore(store))
        refused += [{"corpus": corpus.corpus, "field": "", **row} for row in gone]
    return {
        "samples": taken,
        "quarantine": pa.Table.from_pylist(refused, schema=QUARANTINE_SCHEMA),
    }


def _without(table: pa.Table, removed: Sequence[Tombstone], store: MediaStore) -> tuple[pa.Table, list[dict[str, str]]]:
    """The samples that may be taken in, and (locator, reason) of those that may not; their media leave the store."""
    reason = tombstoned(table, removed)
    gone = table.filter(pc.is_valid(reason))
    media = {key for tomb in removed for key in tomb["media"]}
    for key in media.intersection(gone["media"].combine_chunks().flatten().field("key").to_pylist()):
        store.discard(key)
    told = zip(gone["source"].to_pylist(), gone["origin"].to_pylist(), reason.drop_null().to_pylist(), strict=True)
    rows = [{"source": source, "locator": origin, "reason": f"removed for good: {why}"} for source, origin, why in told]
    return table.filter(pc.is_null(reason)), rows


def _read(unit: str, corpus: Corpus, source: Source, root: Path, store: MediaStore) -> Iterator[Sample | Quarantined]:
    try:
        yield from reader(source).read(inside(root, source.path), unit, corpus.corpus, source, store)
    except Exception as error:  # one unit's fault, of whatever kind, must not end the run
        reason = f"{type(error).__name__}: {error}; what else the unit holds was not read"
        yield Quarantined(corpus.corpus, unit, "", reason)


def fingerprint(corpus: Corpus, root: Path) -> str:
    """A hash of all files of a corpus, names and contents: the input of its ingest step."""
    return fingerprint_of(corpus.sources, root)


def fingerprint_of(sources: Sequence[Source], root: Path) -> str:
    digest = xxhash.xxh3_128()
    for source in sources:
        base = inside(root, source.path)
        files = sorted(file for file in base.rglob("*") if file.is_file()) if base.is_dir() else [base]
        add_files(digest, base, files)
    return digest.hexdigest()
