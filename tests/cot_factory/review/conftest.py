"""Queues on both databases."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from cot_factory.review.tables import connect
from tests.cot_factory.review.databases import postgres

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty queue."""
    if request.param == "sqlite":
        engine = connect(f"sqlite:///{tmp_path}/queue.sqlite")
    else:
        url: str = request.getfixturevalue("postgres_url")
        name = f"queue{next(_numbers)}"
        admin = sa.create_engine(url.format(name="postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as db:
            db.exec_driver_sql(f"CREATE DATABASE {name}")
        admin.dispose()
        engine = connect(url.format(name=name))
    yield engine
    engine.dispose()
