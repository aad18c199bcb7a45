"""The code version of a step: what it runs and all that imports, but neither comments nor wiring."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_engine import code_version


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of three modules, one importing the next within a function."""
    folder = tmp_path / "model_of_versions"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "top.py").write_text("def work():\n    from model_of_versions import middle\n    return middle.x\n")
    (folder / "middle.py").write_text("from model_of_versions.low import y\nx = y\n")
    (folder / "low.py").write_text('"""Says."""\ny = 1\nFILE = "low.json"\n')
    (folder / "low.json").write_text("{}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(code_version, "_PROJECT", ("model_of_versions",))
    yield folder
    for name in [name for name in sys.modules if name.startswith("model_of_versions")]:
        del sys.modules[name]


def version() -> str:
    importlib.invalidate_caches()
    for cached in (code_version._parsed, code_version._imports, code_version._content):
        cached.cache_clear()
    return code_version.fingerprint(["model_of_versions.top"])


@pytest.mark.parametrize(
    ("file", "content", "same"),
    [
        ("low.py", '"""Says more."""\n# why\ny = 1\n\nFILE = "low.json"\n', True),
        ("low.py", '"""Says."""\ny = 2\nFILE = "low.json"\n', False),
        ("middle.py", "from model_of_versions.low import y\nx = -y\n", False),
        ("low.json", "{1}", False),
        ("other.json", "{1}", True),
    ],
)
def test_whatever_is_imported_counts(package: Path, file: str, content: str, same: bool) -> None:
    before = version()
    (package / file).write_text(content)
    assert (version() == before) is same


def test_an_operator_brings_its_kernels_and_tables_but_no_wiring() -> None:
    code_version._parsed.cache_clear()
    found = code_version.closure(["data_engine.judge", "data_engine.operators.web_text"])
    assert {"data_engine.operators.text_scan", "data_engine.words", "data_engine.operators.base"} <= found
    assert "data_engine.operators.sft" not in found and "data_engine.recipe" not in found


def test_how_large_a_pool_is_does_not_count() -> None:
    """An operator, a pass and a rewrite say what a worker needs: the figures are wiring."""
    code_version._parsed.cache_clear()
    modules = ["data_engine.operators.safety", "data_engine.dedup.semantic", "data_engine.rewrites"]
    sources = [importlib.import_module(name).__file__ or "" for name in modules]
    assert all("data_engine.runners.needs" in Path(source).read_text(encoding="utf-8") for source in sources)
    assert not {name for name in code_version.closure(modules) if name.startswith("data_engine.runners")}
