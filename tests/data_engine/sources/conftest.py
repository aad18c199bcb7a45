"""What the readers' tests share."""

from pathlib import Path

import pytest

from data_engine.media import MediaStore


@pytest.fixture
def store(tmp_path: Path) -> MediaStore:
    return MediaStore(tmp_path / "store")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of an empty corpus."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    return folder
