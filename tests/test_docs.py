"""The pages about operators and passes say what the code says."""

import re

import pytest

from data_engine.judge import OPERATORS
from data_engine.passes import PASSES
from tools import operators_page


def test_the_page_is_what_the_code_would_write() -> None:
    page = operators_page.PAGE.read_text(encoding="utf-8")
    assert page == operators_page.written(page), "run `python tools/operators_page.py`"


def test_every_operator_and_pass_has_an_entry_with_all_its_fields() -> None:
    page = operators_page.PAGE.read_text(encoding="utf-8")
    entries = dict(re.findall(r"### `(\w+)`(.*?)(?=\n### |\n<!--)", page, re.DOTALL))
    models = {**OPERATORS, **{name: model for name, (model, _) in PASSES.items()}}
    assert set(entries) == set(models)
    for name, model in models.items():
        assert all(f"`{field}`" in entries[name] for field in model.model_fields), name


def test_a_missing_place_is_told() -> None:
    page = operators_page.PAGE.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="places for"):
        operators_page.written(page.replace("<!-- from the code: video -->", ""))


def test_no_two_operators_measure_one_column() -> None:
    """The later would take the earlier one's place, and both would judge by it: but for one scan that two judge by."""
    owner: dict[str, str] = {}
    for name, operator in OPERATORS.items():
        for column in operator.looks_at:
            assert owner.setdefault(column, name) == name or {owner[column], name} == {"text_quality", "web_text"}, (
                column
            )


def test_curation_names_no_operator_that_is_not_there() -> None:
    page = (operators_page.PAGE.parent / "curation.md").read_text(encoding="utf-8")
    table = page.split("## Which operators for which corpus")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", table))
    assert named - {"demo"} <= set(OPERATORS) | set(PASSES)
