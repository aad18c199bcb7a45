"""Answers in many words: what is right and what is not, near-misses among them."""

import pytest

from data_engine.verify.check import judge
from data_engine.verify.truth import truth_from
from tests.data_engine.verify.phrasings import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]['kind']}-{list(case[0].values())[1]}")
def test_every_phrasing_is_judged_as_it_should_be(case: Case) -> None:
    truth = truth_from(case[0])
    assert [said for said in case[1] if not judge(truth, said).right] == []
    assert [said for said in case[2] if judge(truth, said).right] == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]['kind']}-{list(case[0].values())[1]}")
def test_no_answer_is_credited_in_unfinished_thoughts(case: Case) -> None:
    truth = truth_from(case[0])
    for said in case[1]:
        assert not judge(truth, f"<think>So: {said}").right
        assert not judge(truth, f"So: {said}", thinking=True).right
        assert judge(truth, f"<think>{case[2][0]}</think>{said}").right
