"""Which samples a removal is about: by id, address, licence, person or origin, over every sample table of a run."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine import rights, tables
from data_engine.catalog import CatalogError
from data_engine.describe import Turns, grouped, owners
from data_engine.media import MediaStore, store_of
from data_engine.tombstones import hashed
from data_engine.words import folded, folded_text

By = Literal["id", "url", "licence", "person", "origin"]
Test = Callable[[pa.Table], pa.Array]
BATCH = 4096
# Scripts that set words apart: a name in one of them must be a word of its own.
_LETTERS = r"\p{Latin}\p{Greek}\p{Cyrillic}\p{Nd}"


@dataclass(frozen=True, slots=True)
class Selector:
    """What identifies the samples: one of five ways, and the text or pattern (`*` for anything)."""

    by: By
    text: str


def sample_tables(data: Path) -> list[Path]:
    """Every part of every table `samples` of every finished step, of this and of earlier runs into the folder."""
    return sorted((data / "steps").glob("[!.]*/samples/*.parquet"))


def matching(data: Path, selector: Selector) -> set[str]:
    """The ids of all samples that `selector` names, with what is made of them (by `parents`).

    A sample labelled or masked out of one other stands for that one, which goes too. Raises CatalogError for an
    empty text, and for the beginning of several ids.
    """
    if not selector.text.strip():
        raise CatalogError(f"--{selector.by}: empty; it would name every sample")
    test = _test(data, selector)
    found = {
        name for table in _batches(data) for name in table.filter(pc.fill_null(test(table), False))["id"].to_pylist()
    }
    if selector.by == "person":
        found |= _read_in_pictures(data, selector.text)
    if selector.by == "id" and len(found) > 1:
        raise CatalogError(f"--id {selector.text}: {len(found)} samples begin so; give the whole id")
    return _family(data, found) if found else found


def _batches(data: Path) -> Iterator[pa.Table]:
    for part in sample_tables(data):
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(BATCH):
                yield pa.Table.from_batches([batch])


def _test(data: Path, selector: Selector) -> Test:
    text = selector.text
    if selector.by == "id":
        return lambda table: pc.starts_with(table["id"], text)
    if selector.by == "licence":
        return lambda table: _by_value(table["licence"], lambda name: rights.matches(name, [text]) is not None)
    if selector.by == "origin":
        whole = re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)
        return lambda table: _by_value(table["origin"], lambda origin: whole.fullmatch(origin) is not None)
    if selector.by == "url":
        return _from_address(data, text)
    return lambda table: _speaks_of(_words(table), text)


def _by_value(column: pa.ChunkedArray, holds: Callable[[str], bool]) -> pa.Array:
    distinct = pc.unique(column)
    chosen = [value for value in distinct.to_pylist() if value is not None and holds(value)]
    return pc.is_in(column, value_set=pa.array(chosen, pa.string()))


def _from_address(data: Path, url: str) -> Test:
    """From that address: by origin (or a place within it), or with a picture that was downloaded from it."""
    note = orjson.loads(MediaStore(store_of(data)).note(f"urls/{hashed(url.strip())}") or b"{}")
    key = note.get("key", "")

    def test(table: pa.Table) -> pa.Array:
        origin = table["origin"]
        here = pc.or_(pc.equal(origin, url), pc.starts_with(origin, f"{url}#"))
        media = table["media"].combine_chunks()
        shown = set(owners(media)[pc.equal(media.flatten().field("key"), key).to_numpy(False)].tolist())
        return pc.or_(here, pa.array([row in shown for row in range(len(table))]))

    return test


def _words(table: pa.Table) -> pa.Array:
    """All that a sample says of people: its turns, its attribution and its origin."""
    columns = [pc.fill_null(table[name], "").combine_chunks() for name in ("attribution", "origin")]
    return pc.binary_join_element_wise(Turns(table["messages"]).joined(), *columns, "\n")


def _speaks_of(texts: pa.Array | pa.ChunkedArray, person: str) -> pa.Array:
    """Whether each text has the name: in any case and form, however it is spaced, as words of its own."""
    words = folded_text(unicodedata.normalize("NFKC", person)).split()
    name = r"\s+".join(re.escape(word) for word in words)
    edges = [_edge(words[0][0], "^"), _edge(words[-1][-1], "$")]
    plain = folded(pc.utf8_normalize(texts, form="NFKC"))
    return pc.match_substring_regex(plain, f"{edges[0]}{name}{edges[1]}")


def _edge(letter: str, end: str) -> str:
    apart = letter.isalnum() and not unicodedata.name(letter, "").startswith(("CJK", "HIRAGANA", "KATAKANA", "HANGUL"))
    return f"(?:{end}|[^{_LETTERS}])" if apart else ""


def _read_in_pictures(data: Path, person: str) -> set[str]:
    found: set[str] = set()
    for part in sorted((data / "steps").glob("[!.]*/ocr/*.parquet")):
        table = pq.read_table(part, columns=["id", "ocr_text"])
        found |= set(table.filter(pc.fill_null(_speaks_of(table["ocr_text"], person), False))["id"].to_pylist())
    return found


def _family(data: Path, found: set[str]) -> set[str]:
    """With the one sample each was labelled or masked from, and with everything made of any of them."""
    made = _made(data)
    alone: dict[str, set[str]] = {}
    for name, made_of in made:
        if len(made_of) == 1:
            alone.setdefault(name, set()).add(made_of[0])
    frontier = set(found)
    while frontier:  # up, where there is one parent only: one of several is not the same thing
        frontier = {parent for name in frontier for parent in alone.get(name, ())} - found
        found = found | frontier
    grown = True
    while grown:
        children = {name for name, made_of in made if found & set(made_of)} - found
        found, grown = found | children, bool(children)
    return found


def _made(data: Path) -> set[tuple[str, tuple[str, ...]]]:
    """The samples that were made of others, and of which; two that are masked may come to the same content."""
    made: set[tuple[str, tuple[str, ...]]] = set()
    for part in sample_tables(data):
        table = pq.read_table(part, columns=["id", "parents"])
        table = table.filter(pc.greater(pc.list_value_length(table["parents"]), 0))
        made |= set(zip(table["id"].to_pylist(), map(tuple, table["parents"].to_pylist()), strict=True))
    return made


def media_of(data: Path, ids: set[str]) -> dict[str, list[str]]:
    """For each of these samples the media that no other sample of any table shows."""
    mine: dict[str, set[str]] = {name: set() for name in ids}
    others: set[str] = set()
    wanted = pa.array(sorted(ids), pa.string())
    for part in sample_tables(data):
        table = pq.read_table(part, columns=["id", "media"])
        media = table["media"].combine_chunks()
        keys = grouped(media.flatten().field("key"), owners(media), len(media))
        gone = pc.is_in(table["id"], value_set=wanted)
        others |= set(keys.filter(pc.invert(gone).combine_chunks()).flatten().unique().to_pylist())
        for name, used in zip(
            table["id"].filter(gone).to_pylist(), keys.filter(gone.combine_chunks()).to_pylist(), strict=True
        ):
            mine[name] |= set(used)
    return {name: sorted(used - others) for name, used in mine.items()}


def content_keys(data: Path, ids: set[str]) -> dict[str, str]:
    """The content keys (hex) of these samples, as far as they were measured."""
    found: dict[str, str] = {}
    wanted = pa.array(sorted(ids), pa.string())
    for folder in sorted((data / "steps").glob("measure.*/measures")):
        for part in tables.parts(folder):
            table = pq.read_table(part, columns=["id", "content_key"])
            table = table.filter(pc.is_in(table["id"], value_set=wanted))
            found |= {row["id"]: row["content_key"].hex() for row in table.to_pylist() if row["content_key"]}
    return found


def origins(data: Path, ids: set[str]) -> dict[str, str]:
    """Where these samples came from."""
    found: dict[str, str] = {}
    wanted = pa.array(sorted(ids), pa.string())
    for part in sample_tables(data):
        table = pq.read_table(part, columns=["id", "origin"])
        table = table.filter(pc.is_in(table["id"], value_set=wanted))
        found |= {row["id"]: row["origin"] for row in table.to_pylist() if row["origin"]}
    return found
