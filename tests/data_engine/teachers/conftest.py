"""The counting server, one a test."""

from collections.abc import Iterator

import pytest

from tests.data_engine.teachers.server import CountingServer


@pytest.fixture
def server() -> Iterator[CountingServer]:
    started = CountingServer()
    yield started
    started.close()
