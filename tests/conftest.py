"""Fixtures that several packages share: the real corpora, and one Spark and one Ray session per run."""

from pathlib import Path

import pytest

from data_engine import demo_corpora, machine

machine.prepare()


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
