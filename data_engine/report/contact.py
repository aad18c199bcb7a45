"""The contact sheet: kept and dropped samples of each corpus, with their pictures, their words and the reason."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
from markupsafe import Markup

from data_engine import catalog, clips
from data_engine.media import MediaError, MediaStore, decode_image, store_of
from data_engine.report.corpora import corpora, steps
from data_engine.report.html import render, thumbnail
from data_engine.sample import Media, Part, Sample, from_row

NUM_SHOWN = 9
"""Samples shown of a corpus on each side."""

NUM_UNREAD = 2
"""Records that could not be read at all, among the dropped; more where fewer were dropped."""

THUMBNAIL = 168
"""Pixels of a thumbnail's longer side; a video's frames are half as large."""

FRAMES_SHOWN = 4
"""Frames shown of a sample's videos together, evenly spaced over each."""

# The reasons take turns, so that a rare one is seen too. Ids are hashes: their order is as good as chance.
_CHOOSE = """
SELECT id, status, operator, reason FROM (
  SELECT id, status, operator, reason, row_number() OVER (PARTITION BY operator, {kind} ORDER BY id, origin) AS turn
  FROM (SELECT DISTINCT id, origin, status, operator, reason FROM verdicts
        WHERE corpus = ? AND (status = 'kept') = ?)
) ORDER BY turn, operator, reason, id LIMIT ?
"""
_KIND = "CASE WHEN operator LIKE 'dedup.%' THEN operator ELSE reason END"


def section(data: Path) -> Markup:
    return render("contact.html.jinja", corpora={name: sheet(data, name) for name in corpora(data)})


def sheet(data: Path, corpus: str, num: int = NUM_SHOWN) -> dict[str, list[dict[str, Any]]]:
    """`kept` and `dropped` cards of a corpus; records that could not be read fill up the second."""
    with catalog.open_catalog(data) as connection:
        unread = _unread(connection, corpus)
        kept, dropped = (_choose(connection, corpus, side, num) for side in (True, False))
        unread = unread[: max(num - len(dropped), NUM_UNREAD)]
        dropped = dropped[: num - len(unread)]
        found = samples(connection, [row["id"] for row in kept + dropped])
    return {
        "kept": [card(data, found[row["id"]], row) for row in kept],
        "dropped": [card(data, found[row["id"]], row) for row in dropped] + unread,
    }


def _choose(connection: duckdb.DuckDBPyConnection, corpus: str, kept: bool, num: int) -> list[dict[str, Any]]:
    return catalog.rows(connection, _CHOOSE.format(kind=_KIND), corpus, kept, num)


def samples(connection: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> dict[str, Sample]:
    """Samples of the run by id; an id that it does not hold is left out."""
    rows = catalog.rows(connection, "SELECT * FROM samples WHERE list_contains(?, id)", list(ids))
    return {row["id"]: from_row(row) for row in rows}


def _unread(connection: duckdb.DuckDBPyConnection, corpus: str) -> list[dict[str, Any]]:
    """Records without a sample: nothing to show but where they are and why."""
    if not catalog.has(connection, "quarantine"):
        return []
    query = "SELECT locator, reason FROM quarantine WHERE corpus = ? ORDER BY locator LIMIT ?"
    return [
        {"id": None, "status": "quarantined", "operator": "read", "reason": row["reason"]}
        | {"pictures": [], "words": [("record", row["locator"])]}
        for row in catalog.rows(connection, query, corpus, NUM_SHOWN)
    ]


def card(data: Path, sample: Sample, verdict: dict[str, Any]) -> dict[str, Any]:
    """One sample as the sheets show it, with whatever is said of it."""
    words = [(message.role, message.text.strip()) for message in sample.messages if message.text.strip()]
    return {"id": sample.id, **verdict, "pictures": pictures(data, sample), "words": words}


def pictures(data: Path, sample: Sample) -> list[dict[str, Any]]:
    """Thumbnails of the first few things a sample shows: `uri` (None if it does not decode), `small` for frames."""
    parts = [part for message in sample.messages for part in message.parts if part.kind != "text"][:FRAMES_SHOWN]
    return [
        {"uri": uri, "small": len(parts) > 1 or part.kind == "video"}
        for part in parts
        for uri in _shown(data, sample, part, max(1, FRAMES_SHOWN // len(parts)))
    ]


def _shown(data: Path, sample: Sample, part: Part, num: int) -> Sequence[str | None]:
    items = [sample.media[index] for index in part.media]
    try:
        if part.kind == "image" and items[0].start is None:
            return [thumbnail(decode_image(MediaStore(store_of(data)).read(items[0].key)), THUMBNAIL)]
        jpegs = [jpeg for item in items for jpeg in frames(data, sample.corpus, item)]
    except (MediaError, OSError):
        return [None]
    num = min(num, len(jpegs))
    return [thumbnail(decode_image(jpegs[place]), THUMBNAIL // 2) for place in clips.spread(len(jpegs), num)]


def frames(data: Path, corpus: str, item: Media) -> list[bytes]:
    """The sampled frames (JPEG) of a span. Raises OSError where the video could not be probed."""
    return clips.span(steps(data)[f"probe.{corpus}"] / "frames", item)
