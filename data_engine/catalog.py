"""Questions about a run, answered by DuckDB over its step tables: why a sample is here or gone, and the funnel."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from data_engine import judge, making, rewrites

TABLES = (
    "samples",
    "rewritten",
    "made",
    "unmade",
    "asked",
    "quarantine",
    "media",
    "bad",
    "ocr",
    "measures",
    "verdicts",
    "tokens",
    "plan",
    "index",
)


class CatalogError(ValueError):
    """A folder without a run, or an id no table knows: the message says what to do."""


def steps(data: Path) -> dict[str, Path]:
    """The steps of the latest run in `data`, by name. Raises CatalogError if there is none."""
    index = data / "run.json"
    if not index.exists():
        raise CatalogError(f"{data}: no run here (run.json is missing); give --data DIR of a curated run")
    return {name: data / folder for name, folder in json.loads(index.read_text())["steps"].items()}


@contextmanager
def open_catalog(data: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with one view per table of the run: `samples`, `verdicts`, `measures`, ...

    Every view has the columns `step` (its name) and `corpus`. `verdicts` holds the final verdicts only,
    `samples` every sample as ingested, as rewritten, as made of others and as labelled.
    """
    with duckdb.connect() as connection:
        for table in TABLES:
            found = [(name, folder / table) for name, folder in steps(data).items() if _holds(name, table, folder)]
            if found:
                connection.execute(f"CREATE VIEW {table} AS {' UNION ALL BY NAME '.join(map(_select, found))}")
        yield connection


# Tables that several steps have: whose is shown.
_OWNER: dict[str, str | tuple[str, ...]] = {
    "verdicts": "dedup.",
    "samples": ("ingest.", "rewrite.", "make", "ocr."),
    "measures": "measure.",
    "media": "probe.",
    "bad": "probe.",
}


def _holds(step: str, table: str, folder: Path) -> bool:
    if not any((folder / table).glob("*.parquet")):
        return False
    return step.startswith(_OWNER.get(table, ""))


def _select(found: tuple[str, Path]) -> str:
    step, folder = found
    corpus = step.partition(".")[2]
    named = f", '{corpus}' AS corpus" if corpus else ""
    exclude = " EXCLUDE (corpus)" if corpus and folder.name in {"samples", "quarantine"} else ""
    files = str(folder / "*.parquet").replace("'", "''")
    return f"SELECT *{exclude}, '{step}' AS step{named} FROM read_parquet('{files}', union_by_name = true)"


def rows(connection: duckdb.DuckDBPyConnection, sql: str, *values: Any) -> list[dict[str, Any]]:
    """A query's rows as dicts."""
    found: list[dict[str, Any]] = connection.sql(sql, params=list(values)).to_arrow_table().to_pylist()
    return found


def has(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Whether the run has this table at all."""
    names = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    return (table,) in names


def why(data: Path, sample_id: str) -> dict[str, Any]:
    """All that is known of one sample: content, each operator's say, verdict, tokens, place and shard.

    A unique beginning of the id is enough. Raises CatalogError for an unknown or ambiguous one.
    """
    with open_catalog(data) as connection:
        found = rows(connection, "SELECT * FROM samples WHERE starts_with(id, ?) LIMIT 50", sample_id)
        ids = sorted({row["id"] for row in found})
        if len(ids) != 1:
            fault = "no sample has this id" if not ids else f"{len(ids)} samples begin so: {', '.join(ids[:4])} ..."
            raise CatalogError(f"id {sample_id!r}: {fault}; `keyeforge data inspect` lists ids")
        about: dict[str, Any] = {"sample": found[0]}
        wanted = {
            "rewritten": "",
            "made": "",
            "verdicts": "",
            "measures": "",
            "ocr": "",
            "tokens": "",
            "plan": "ORDER BY position",
            "index": "",
        }
        for table, order in wanted.items():
            if has(connection, table):
                about[table] = rows(connection, f'SELECT * FROM "{table}" WHERE id = ? {order}', ids[0])
        query = "SELECT * FROM measures WHERE id = ?"
        told = _story(data, connection.sql(query, params=[ids[0]]).to_arrow_table(), about["verdicts"])
        about["lineage"] = [*_rewriting(about), *making.told(about.get("made", [])[:1]), *told]
        about["children"] = rows(connection, "SELECT id FROM samples WHERE list_contains(parents, ?)", ids[0])
        return about


def _rewriting(about: dict[str, Any]) -> list[dict[str, Any]]:
    """What was done to a sample before anything was measured; of several that became the same, the first."""
    notes = [note for row in about.get("rewritten", [])[:1] for note in row["notes"]]
    return rewrites.told(notes + [note for row in about.get("ocr", [])[:1] for note in row.get("ocr_notes") or ()])


def _story(data: Path, measures: pa.Table, verdicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each operator says of a sample, told anew from its stored measures, and what a pass said of it."""
    told = []
    for place, corpus in enumerate(measures["corpus"].to_pylist()):
        told += judge.story(measures.slice(place, 1), judge.build(operators(data, corpus)))
    names = {row["operator"] for row in told if row["verdict"] != "keep"}
    for row in verdicts:
        if row["status"] != "kept" and row["operator"] not in names:
            told.append({**row, "verdict": "drop", "measures": {}, "settings": {}})
    return told


def operators(data: Path, corpus: str) -> list[dict[str, dict[str, Any]]]:
    """The operators that decided over a corpus, in order, with their settings; percentiles are scores by then."""
    settled = steps(data)[f"decide.{corpus}"] / judge.SETTLED
    if not settled.exists():  # a run of before they were kept
        return _config(data, f"decide.{corpus}")
    found: list[dict[str, dict[str, Any]]] = json.loads(settled.read_text(encoding="utf-8"))
    return found


def record(folder: Path) -> dict[str, Any]:
    """What a finished step says of itself: name, config, inputs, counts, seconds, ..."""
    found: dict[str, Any] = json.loads((folder / "step.json").read_text())
    return found


def _config(data: Path, step: str) -> list[dict[str, dict[str, Any]]]:
    found: list[dict[str, dict[str, Any]]] = record(steps(data)[step])["config"]
    return found


def stages(data: Path, corpus: str) -> list[str]:
    """Whatever can drop a sample of a corpus, in the order it does: operators, then passes as `dedup.<name>`."""
    passes = [name for spec in _config(data, f"dedup.{corpus}") for name in spec]
    names = ["media", "label", *(name for spec in operators(data, corpus) for name in spec)]
    return list(dict.fromkeys([*names, *(f"dedup.{name}" for name in passes)]))


# What refused a row of `quarantine`: the reader of its source, or a maker.
REFUSED_BY = "CASE WHEN starts_with(step, 'make') THEN 'make' ELSE 'read' END"


def funnel(data: Path, *, by_source: bool = False) -> list[dict[str, Any]]:
    """Per corpus (or source), how many samples each stage saw and how many it dropped, from reading to kept.

    `rerouted` of the dropped went to a queue; the row `rewrite` of a whole corpus says how many were changed. What no
    recipe names (rights, tombstones) comes right after that. `source` is null where corpora are whole.
    """
    source = "source" if by_source else "NULL"
    with open_catalog(data) as connection:
        query = f"""SELECT corpus, {source} AS source, {{}} AS operator, count(*) AS n, {{}} AS rerouted
            FROM {{}} GROUP BY ALL"""
        found = rows(connection, query.format("operator", "count(*) FILTER (status = 'rerouted')", "verdicts"))
        found += rows(connection, query.format(REFUSED_BY, "0", "quarantine")) if has(connection, "quarantine") else []
        found += rows(connection, query.format("'make'", "0", "unmade WHERE lost")) if has(connection, "unmade") else []
    changed = {} if by_source else _rewritten(data)
    funnels = []
    for corpus, place in sorted({(row["corpus"], row["source"]) for row in found}, key=str):
        mine = _by_operator(row for row in found if (row["corpus"], row["source"]) == (corpus, place))
        funnels += _funnel(corpus, place, mine, stages(data, corpus), changed.get(corpus))
    return funnels


def _by_operator(found: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rows by operator; those of one operator from several tables are added up."""
    told: dict[str, dict[str, Any]] = {}
    for row in found:
        before = told.get(row["operator"], {"n": 0, "rerouted": 0})
        told[row["operator"]] = row | {name: before[name] + row[name] for name in ("n", "rerouted")}
    return told


def _funnel(
    corpus: str, place: str | None, mine: dict[str, dict[str, Any]], named: list[str], changed: int | None
) -> list[dict[str, Any]]:
    """One funnel: `mine` are the counts per operator, `named` the stages in order."""
    others = sorted(name for name in mine if name not in {None, "read", "make", *named})
    first = ["read", *(["rewrite"] if changed is not None else []), *(["make"] if "make" in mine else [])]
    seen, told = sum(row["n"] for row in mine.values()), []
    for order, name in enumerate([*first, *others, *named], start=-1):
        gone = mine.get(name, {"n": 0, "rerouted": 0})
        row = {"corpus": corpus, "source": place, "order": order, "operator": name, "seen": seen}
        row |= {"dropped": gone["n"], "rerouted": gone["rerouted"]}
        told.append(row | {"rewritten": (changed or 0) if name == "rewrite" else 0})
        seen -= gone["n"]
    return told


def _rewritten(data: Path) -> dict[str, int]:
    """How many samples were rewritten, of the corpora that have rewrites."""
    found = {name.partition(".")[2]: folder for name, folder in steps(data).items() if name.startswith("rewrite.")}
    return {corpus: record(folder)["counts"]["rewritten"] for corpus, folder in found.items()}


# A verdict's reason without the sample or the benchmark it names: what reasons are counted by.
REASON_KIND = """CASE WHEN reason LIKE 'duplicate of %' THEN 'duplicate'
    WHEN operator = 'dedup.decontaminate' THEN 'shows what a benchmark asks' ELSE reason END"""


def reasons(data: Path) -> list[dict[str, Any]]:
    """Per corpus and reason: how many samples were dropped or quarantined."""
    with open_catalog(data) as connection:
        found = rows(
            connection,
            f"""SELECT corpus, status, operator, {REASON_KIND} AS reason, count(*) AS count
               FROM verdicts WHERE status <> 'kept' GROUP BY ALL""",
        )
        if has(connection, "quarantine"):
            found += rows(
                connection,
                f"""SELECT corpus, 'quarantined' AS status, {REFUSED_BY} AS operator, reason, count(*) AS count
                   FROM quarantine GROUP BY ALL""",
            )
        if has(connection, "unmade"):
            found += rows(
                connection,
                """SELECT corpus, 'dropped' AS status, maker AS operator, reason, count(*) AS count
                   FROM unmade WHERE lost GROUP BY ALL""",
            )
    return sorted(found, key=lambda row: (row["corpus"], -row["count"], row["reason"]))


def inspect(data: Path, *, corpus: str | None, status: str | None, limit: int) -> list[dict[str, Any]]:
    """A few samples with their verdicts and words. Raises CatalogError for an unknown corpus."""
    known = [name.removeprefix("dedup.") for name in steps(data) if name.startswith("dedup.")]
    if corpus is not None and corpus not in known:
        raise CatalogError(f"--corpus {corpus}: this run has {', '.join(known) or 'none that came to its verdicts'}")
    with open_catalog(data) as connection:
        found = rows(
            connection,
            """SELECT v.id, v.corpus, v.status, v.operator, v.reason, any_value(s.messages) AS messages
               FROM verdicts AS v JOIN samples AS s ON s.id = v.id
               WHERE (? IS NULL OR v.corpus = ?) AND (? IS NULL OR v.status = ?)
               GROUP BY ALL ORDER BY v.id LIMIT ?""",
            corpus, corpus, status, status, limit,
        )  # fmt: skip
    for row in found:
        parts = [part for message in row.pop("messages") for part in message["parts"]]
        row["text"] = " | ".join(part["text"] if part["kind"] == "text" else f"<{part['kind']}>" for part in parts)
    return found
