"""Decisions hold for the words that were decided on; a repair is a proposal; what is lost is said."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cot_factory import calibrate, confidence, people, repair
from cot_factory.assess.process import assess_process
from cot_factory.assess.steps import split
from cot_factory.assess.tier import tier
from cot_factory.collect import collect
from cot_factory.enhance import _groups
from cot_factory.question import Question, named, steps_of, steps_text
from cot_factory.recipe import Assess, Questions
from cot_factory.record import Decision, Finding, Shown, Step, as_data
from cot_factory.released import sample_of
from cot_factory.run import _fingerprint
from data_engine.media import MediaStore
from data_engine.sources.common import Quarantined
from data_engine.teachers.request import Answer
from data_engine.verify.judgement import Judgement
from tests.cot_factory.runs import recipe

FLAW = Finding("arithmetic", False, "2 + 2 = 5, but it is 4")
ROW: dict[str, Any] = {
    "question": "q", "teacher": "t", "path": 0, "answer": "4", "tier": "B", "text": "old", "finish": "stop",
    "steps": steps_text([Step("We add."), Step("2 + 2 = 5", findings=(FLAW,))]),
}  # fmt: skip


def test_a_decision_is_of_the_words_that_were_seen_and_not_of_the_chains_place() -> None:
    other = ROW | {"steps": steps_text([Step("Another thought.")])}
    assert people.task_id(ROW) == people.task_id(ROW | {"probability": 0.5})
    assert len({people.task_id(row) for row in (ROW, other, ROW | {"answer": "5"})}) == 3


def test_what_people_fix_is_what_is_scored_and_no_steps_leave_those_there_were() -> None:
    fixed, _ = people.applied(ROW, Decision("q", "ann", "fix", ("2 + 2 = 4",), "4"))
    assert fixed["text"] == "2 + 2 = 4\nAnswer: 4"
    only_answer, _ = people.applied(ROW, Decision("q", "ann", "fix", (), "four"))
    assert only_answer["answer"] == "four"
    assert [step.text for step in steps_of(only_answer["steps"])] == ["We add.", "2 + 2 = 5"]


def test_decisions_are_read_line_by_line_whatever_a_text_holds(tmp_path: Path) -> None:
    one = Decision("t", "ann", "reject", why="a\u2028b\x0cc\x85d")
    path = tmp_path / "decisions.jsonl"
    path.write_text(json.dumps(as_data(one), ensure_ascii=False) + "\n", encoding="utf-8")
    assert people.read_decisions(path) == [one]
    path.write_text(json.dumps(as_data(one) | {"action": "acept"}))
    with pytest.raises(Exception, match=r"decisions.jsonl:1: .*acept.*accept, fix"):
        people.read_decisions(path)


def test_a_repair_that_thinks_keeps_the_right_prefix_and_one_cut_off_is_not_finished() -> None:
    end = Answer("<think>2 + 2 = 4</think>\nAnswer: 4", "t", "m", 1, 1, "length")
    new = repair._rewritten(ROW, end)
    assert [step.text for step in steps_of(new["steps"])] == ["We add.", "2 + 2 = 4"]
    assert (new["answer"], new["finish"]) == ("4", "length")


def test_thoughts_that_the_template_opened_end_at_their_mark() -> None:
    text = "1. We add.\n2. 2 + 2 = 4</think>\nThe sum is four.\nAnswer: 4"
    assert [text[a:b] for a, b in split(text)] == ["1. We add.", "2. 2 + 2 = 4"]
    text = f"Well. <think>{text}"
    assert [text[a:b] for a, b in split(text)] == ["1. We add.", "2. 2 + 2 = 4"]


def test_a_clean_chain_is_no_flawed_one_at_any_threshold() -> None:
    spec = Assess(severe_steps=0.0)
    assert tier(Judgement(True, 1.0, "right"), [Step("We add.")], 0.0, spec) == ("A", "")
    assert tier(Judgement(True, 1.0, "right"), steps_of(ROW["steps"]), 0.0, spec)[0] == "C"


@pytest.mark.parametrize(
    ("answer", "said", "ok"), [("1000", "The sum is 1,000.", True), ("5.0", "It is 5", True), ("7", "It is 5", False)]
)
def test_an_answer_is_supported_by_its_value(answer: str, said: str, ok: bool) -> None:
    (step,) = assess_process("What is it?", [Step(said)], answer)
    assert any(one.check == "support" for one in step.findings) != ok


def test_paths_without_an_answer_agree_with_nobody() -> None:
    assert confidence.agreement(["", "", "4", "4"]) == [0, 0, pytest.approx(1 / 3), pytest.approx(1 / 3)]


def test_isotonic_gives_chains_of_one_signal_one_probability_in_any_order() -> None:
    signals, right = np.full((8, 3), 0.5), np.array([False, True] * 4)
    for order in (np.arange(8), np.argsort(right, kind="stable")):
        found = calibrate.fit(signals, right[order], "isotonic").predict(signals)
        np.testing.assert_allclose(found, 0.5)


def test_the_gain_of_many_questions_is_that_by_hand() -> None:
    rng = np.random.default_rng(1)
    names = [f"q{number // 4}" for number in rng.permutation(80_000)]
    probability, right = rng.random(80_000), rng.random(80_000) < 0.5
    best: dict[str, tuple[float, bool]] = {}
    for name, sure, ok in zip(names, probability, right, strict=True):
        best[name] = max(best.get(name, (-1.0, False)), (sure, bool(ok)))
    found = calibrate.gain(names, probability, right, probability)
    assert found.questions == 20_000
    assert found.by_confidence == pytest.approx(np.mean([ok for _, ok in best.values()]))
    assert found.low < 0 < found.high < 0.01 + found.difference


@pytest.mark.parametrize(
    ("more", "field"), [({"spans": [[0, 1, "a"]]}, "spans"), ({"boxes": [[0, 0, 1, 1, "a"]]}, "boxes"),
                        ({"video": "v.mp4", "images": ["i.png"]}, "video")]
)  # fmt: skip
def test_marks_of_nothing_are_set_aside_and_not_lost(more: dict[str, Any], field: str, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(json.dumps({"question": "How many?", "answer": "3", **more}) + "\n")
    spec = Questions(domain="counting", file="q.jsonl", limit=None)
    (found,) = collect(spec, tmp_path, MediaStore(tmp_path / "media"))
    assert isinstance(found, Quarantined)
    assert found.field == field


def test_what_a_run_writes_beside_the_questions_does_not_begin_it_anew(tmp_path: Path) -> None:
    spec = recipe(tmp_path, "http://127.0.0.1:9/v1", 3)
    out = tmp_path / "sums" / "out"
    before = _fingerprint(spec, out)
    out.mkdir()
    (out / "summary.json").write_text("{}")
    assert _fingerprint(spec, out) == before
    (tmp_path / "sums" / "sums.jsonl").write_text("")
    assert _fingerprint(spec, out) != before


def _about_picture(text: str, reference: str) -> Question:
    return named(
        Question("ocr", text, reference, ({"kind": "exact", "value": reference},), shown=(Shown("image", "k"),))
    )


def test_a_question_whose_answer_holds_the_separator_is_not_merged() -> None:
    asked = [_about_picture("One?", "red; blue"), _about_picture("Two?", "red"), _about_picture("Three?", "blue")]
    assert [[one.text for one in group] for group in _groups(asked, 1.0)] == [["Two?", "Three?"]]


def test_who_worded_the_question_is_named_in_the_licence() -> None:
    question = replace(_about_picture("One?", "red"), licence="MIT", teacher="rewriter")
    assert sample_of("c", question, ROW).licence == "MIT, teacher:t, teacher:rewriter"
