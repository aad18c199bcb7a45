"""The gate judges metrics by Great Expectations; what stops and what only warns is the recipe's choice."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data_engine import gates
from data_engine.recipe import Gate

TABLE = pd.DataFrame(
    [{"corpus": "a", "kept": 90, "duplicate_share": 0.01}, {"corpus": "b", "kept": 5, "duplicate_share": 0.4}]
)


def judged(folder: Path, *rules: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    gates.validate(TABLE, [Gate(**rule) for rule in rules], folder)
    return gates.summary(folder), gates.failed(folder)


def test_every_corpus_must_hold(tmp_path: Path) -> None:
    report, failed = judged(tmp_path, {"measure": "kept", "min": 10})
    assert not report["passed"] and failed == ["gate: kept should be at least 10: b = 5"]
    assert report["expectations"][0]["observed"] == {"a": 90.0, "b": 5.0}


@pytest.mark.parametrize(("bounds", "passed"), [({"min": 5}, True), ({"max": 4}, False), ({"min": 5, "max": 90}, True)])
def test_bounds_are_inclusive(tmp_path: Path, bounds: dict[str, float], passed: bool) -> None:
    assert judged(tmp_path, {"measure": "kept", **bounds})[0]["passed"] is passed


def test_a_gate_on_one_corpus_leaves_the_others_alone(tmp_path: Path) -> None:
    assert judged(tmp_path, {"measure": "duplicate_share", "max": 0.1, "corpus": "a"})[0]["passed"]


def test_a_warning_does_not_stop(tmp_path: Path) -> None:
    report, failed = judged(tmp_path, {"measure": "kept", "min": 10, "action": "warn"})
    assert report["passed"] and not failed and not report["expectations"][0]["success"]
