"""The two engines that run deduplication's joins: DuckDB on one machine, Spark on many. The SQL is the same."""

from typing import Protocol

import pyarrow as pa

from data_engine.runners.partition import RunnerName


class Engine(Protocol):
    """Runs SQL that both engines understand over named Arrow tables."""

    def __call__(self, sql: str, **tables: pa.Table) -> pa.Table: ...


def duckdb_sql(sql: str, **tables: pa.Table) -> pa.Table:
    import duckdb

    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        return connection.sql(sql).to_arrow_table()


def spark_sql(sql: str, **tables: pa.Table) -> pa.Table:
    from data_engine.runners import spark

    session = spark.session()
    for name, table in tables.items():
        session.createDataFrame(table).createOrReplaceTempView(name)
    return session.sql(sql).toArrow()


def engine_for(runner: RunnerName | None) -> Engine:
    """Spark owns shuffles and joins, unless the run was asked to stay on the local machine."""
    return duckdb_sql if runner == "local" else spark_sql
