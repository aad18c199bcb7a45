"""What is read of another run, whose rows are whole samples: a release, a queue. Media come over under their keys."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_engine import sample as samples
from data_engine.media import MediaStore
from data_engine.sample import Sample
from data_engine.sources import records
from data_engine.sources.common import Quarantined, RecordError


def read_rows(
    root: Path, unit: str, columns: Sequence[str], corpus: str, make: Callable[[dict[str, Any]], Sample]
) -> Iterator[Sample | Quarantined]:
    """What `make` makes of every row of a unit; a row that it refuses (RecordError) is quarantined."""
    for where, row in records.rows(root, unit, columns):
        if isinstance(row, RecordError):
            yield row.at(corpus, where)
            continue
        try:
            yield make(row)
        except RecordError as error:
            yield error.at(corpus, where)


def sample_of(row: dict[str, Any], what: str, held: MediaStore, store: MediaStore) -> Sample:
    """The sample in a row of a `what`, its media brought over. Raises RecordError."""
    try:
        old = samples.from_row(row)
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError("id", f"not a row of a {what}: {error}") from error
    for item in old.media:
        _bring(item.key, held, store)
    return old


def store_at(address: str) -> MediaStore:
    """A media store by the address that a recipe gives: of an object store, or a folder."""
    return MediaStore(address if "://" in address else Path(address).expanduser())


def _bring(key: str, held: MediaStore, store: MediaStore) -> None:
    """Raises RecordError where the other store has no such medium or another under its name."""
    try:
        if store.has(key):
            return
        found = store.put_file(held.local(key))
    except (OSError, ValueError) as error:
        raise RecordError("media", f"{key[:16]}…: not in the store that options.media names") from error
    if found != key:
        raise RecordError("media", f"{key[:16]}…: its file has other content")
