"""Exact duplicates: the same pictures with the same words (`judge.content_key`), wherever they came from."""

import pyarrow as pa

from data_engine.dedup.engine import Engine
from strict_yaml import Strict

_SQL = """
SELECT row, rank, first_value(id) OVER (PARTITION BY content_key ORDER BY rank) AS keeper
FROM (SELECT row, id, content_key,
             row_number() OVER (PARTITION BY content_key ORDER BY id, row) AS rank FROM measured) AS ranked
"""


class Exact(Strict):
    """Of the samples with one content key, the one with the smallest id is kept."""


def find(measures: pa.Table, _: Exact, engine: Engine) -> dict[int, str]:
    """Rows of `measures` that are duplicates, each with the id of the sample kept in its place."""
    columns = measures.select(["id", "content_key"])
    ranked = engine(_SQL, measured=columns.append_column("row", pa.array(range(len(columns)), pa.int64())))
    return {found["row"]: found["keeper"] for found in ranked.to_pylist() if found["rank"] > 1}
