"""Planted answers over easy-vqa's pictures: at least 99 of 100 judged as they should be, of every kind and sort."""

import itertools
from typing import Any

import pytest

from data_engine.verify.check import judge
from data_engine.verify.truth import truth_from
from tests.data_engine.verify.planted import planted, unfinished

KINDS = ("box", "point", "count", "ocr", "chart", "span", "number", "exact")


@pytest.mark.parametrize("kind", KINDS)
def test_right_wrong_and_near_answers(kind: str, corpora: Any) -> None:
    pictures = sorted((corpora / "easy_vqa/images").glob("*.png"))
    items = list(itertools.islice(planted(pictures, seed=4)[kind], 120))
    assert {item.sort for item in items} == {"right", "near", "wrong"}
    missed = [item for item in items if judge(truth_from(item.truth), item.reply).right != (item.sort == "right")]
    assert len(missed) <= 0.01 * len(items), missed[:3]
    assert [item for item in items if judge(truth_from(item.truth), unfinished(item.reply)).right] == []
