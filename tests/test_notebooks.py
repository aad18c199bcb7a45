"""The notebooks run as they are committed, against a real run, and are committed without outputs."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbconvert.preprocessors import ExecutePreprocessor

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_committed_without_outputs(path: Path) -> None:
    for cell in code_cells(nbformat.read(path, as_version=4)):
        assert cell.outputs == [] and cell.execution_count is None, "run `jupyter nbconvert --clear-output --inplace`"


def test_inspect_run_shows_a_real_run(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(path for path in NOTEBOOKS if path.name == "inspect_run.ipynb")
    notebook = nbformat.read(path, as_version=4)
    monkeypatch.setenv("KEYEFORGE_DATA", str(small_run))
    runner = ExecutePreprocessor(timeout=300, kernel_name="python3")
    runner.preprocess(notebook, {"metadata": {"path": str(path.parent)}})

    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert len(pictures) >= 5, "funnel, histograms, mix, film strip and its curve"
    assert "kept: " in printed and "dropped: " in printed
    assert "frames are slow" in printed
