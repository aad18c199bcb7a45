"""Fixtures that several packages share: the real corpora, and one Spark and one Ray session per run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from data_engine import demo_corpora, machine
from tests import small_corpora as small

machine.prepare()
settings.register_profile("any speed", deadline=None)  # no test depends on how fast it runs
settings.load_profile("any speed")


class Corpora:
    """The fetched corpora as a path: `corpora / "video/vtest.avi"` skips the test if it could not be had."""

    def __init__(self, root: Path, results: list[demo_corpora.Fetched]) -> None:
        self.root = root
        self.results = results

    def __truediv__(self, relative: str) -> Path:
        for result in self.results:
            concerned = any(f"{path}/".startswith(f"{relative}/") for path in result.paths) or any(
                f"{relative}/".startswith(f"{path}/") for path in result.paths
            )
            if concerned and result.status == "skipped":
                pytest.skip(f"corpus {result.name} was not to be had: {result.reason}")
        return self.root / relative


@pytest.fixture(scope="session")
def corpora() -> Corpora:
    """The demo's corpora, fetched once into the ordinary cache."""
    root = demo_corpora.default_cache()
    return Corpora(root, demo_corpora.fetch(root))


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """The one Spark session of a test run."""
    from data_engine.runners import spark as runner

    session = runner.session()
    yield session
    session.stop()


@pytest.fixture(scope="session")
def ray() -> Iterator[Any]:
    """The one local Ray cluster of a test run."""
    from data_engine.runners import ray as runner

    module = runner.start()
    yield module
    module.shutdown()


@pytest.fixture(scope="session")
def small_corpora(corpora: Corpora, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small copy of every corpus; tests that change it copy it again."""
    if skipped := [result.name for result in corpora.results if result.status == "skipped"]:
        pytest.skip(f"needs every corpus, and these were not to be had: {', '.join(skipped)}")
    return small.make(corpora.root, tmp_path_factory.mktemp("corpora"))


@pytest.fixture(scope="session")
def small_run(small_corpora: Path, spark: Any, ray: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole curation run over the small corpora, on Spark and Ray: its folder."""
    from data_engine.curate import curate
    from data_engine.recipe import load_recipe

    out = tmp_path_factory.mktemp("run")
    outcome = curate(load_recipe(small.recipe(small_corpora, out / "recipe.yaml")), out)
    assert not outcome.failed
    return out
