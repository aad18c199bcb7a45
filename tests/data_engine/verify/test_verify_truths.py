"""Truths from plain JSON, the final answer of a reply, answers that are one answer."""

import json

import pytest

from data_engine.verify.check import canonical, groups, judge, same
from data_engine.verify.extract import final_answer
from data_engine.verify.truth import KINDS, truth_from
from strict_yaml import RecipeError
from tests.data_engine import embedding_models

EXAMPLES = [
    {"kind": "exact", "value": "red"}, {"kind": "choice", "value": "B"}, {"kind": "number", "value": 3.5, "unit": "cm"},
    {"kind": "formula", "value": "x+1"}, {"kind": "fuzzy", "value": "a red car"}, {"kind": "count", "value": 3},
    {"kind": "semantic", "value": "a car", "model": "folder"}, {"kind": "box", "boxes": [[0, 0, 1, 1]]},
    {"kind": "point", "polygon": [[0, 0], [1, 0], [0, 1]]}, {"kind": "ocr", "value": "EXIT"},
    {"kind": "chart", "value": ["3", "blue"]}, {"kind": "span", "start": "0:05", "end": 9},
]  # fmt: skip


def test_every_kind_comes_from_json_and_goes_back() -> None:
    assert [example["kind"] for example in EXAMPLES] == sorted(KINDS, key=[e["kind"] for e in EXAMPLES].index)
    for example in EXAMPLES:
        truth = truth_from(json.loads(json.dumps(example)))
        assert truth_from(json.loads(truth.model_dump_json())) == truth


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"kind": "numbr", "value": 1}, "t: kind: unknown 'numbr'; did you mean 'number'?"),
        ({"kind": "number", "valeu": 1, "value": 1}, "t: valeu: unknown key; did you mean 'value'?"),
        ({"value": 1}, "t: kind: one of exact, choice"),
        ({"kind": "number", "value": "3-5"}, "value '3-5' is no single number"),
        ({"kind": "number", "value": True}, "t: value"),
        ({"kind": "box", "boxes": [[5, 5, 1, 1]]}, "has no area"),
        ({"kind": "box", "boxes": [[0, 0, 1, 1]], "answer_in": "bins"}, "size: [width, height]"),
        ({"kind": "point"}, "give one of box"),
        ({"kind": "span", "start": "1:75", "end": 99}, "is no time"),
        ({"kind": "span", "start": 5, "end": 4}, "does not rise"),
        ({"kind": "choice", "value": "D", "options": {"A": "x"}}, "is not one of the options A"),
    ],
)
def test_a_fault_is_one_line_that_names_field_and_fix(data: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError) as fault:
        truth_from(data, "t")
    assert said in str(fault.value)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("<think>4</think>5", "5"), ("<think>4</think><answer>5</answer>", "5"), ("\\boxed{\\frac{1}{2}}",
        "\\frac{1}{2}"),
        ("\\boxed{4} no, \\boxed{5}", "5"), ("<answer>so \\boxed{5}</answer>", "5"), ("The answer is 3.5. Done", "3.5"),
        ("Answer: A\nor rather\nAnswer: B", "B"), ("**Final Answer:** 12 cm.", "12 cm"), ("答案：5。谢谢", "5"),
        ("<analysis>x</analysis>7", "7"), ("<think>a</think><think>b</think>c", "c"), ("<answer>5", "5"),
        ("<think>5", None), ("<think>\\boxed{5}", None), ("<think><answer>5</answer>", None), ("5 <think> hm", None),
        ("<answer>5</answer><think>hm", "5"), ("<analysis>5", None), ("", None), ("  ", None), ("</think>", None),
    ],
)  # fmt: skip
def test_the_final_answer_of_a_reply(reply: str, answer: str | None) -> None:
    assert final_answer(reply) == answer


def test_a_reply_that_starts_in_its_thoughts() -> None:
    assert final_answer("hm, 5", thinking=True) is None
    assert final_answer("hm, 4</think>5", thinking=True) == "5"


def test_answers_of_several_paths_are_grouped_by_meaning() -> None:
    answers = [
        "1/2",
        "0.5",
        "\\frac{1}{2}",
        "x+1",
        "1+x",
        "Paris.",
        "paris",
        "7",
        "seven",
        "50 cm",
        "0.5 m",
        "yes",
        "0",
    ]
    assert groups(answers) == [0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6]
    assert canonical("no") != canonical("0")
    assert same("(x-1)(x+1)", "x^2-1")
    assert not same("a car", "a bus")


NASTY = [
    "9" * 100_000, "[" * 100_000, "(1, " * 30_000, "\\boxed{" * 15_000, "<think>" * 10_000, "<answer>" * 10_000,
    " " * 100_000,
    "1 " * 50_000, "1:" * 50_000, "is " * 30_000, "=" * 100_000, "answer: " * 12_000, ". " * 50_000,
    "\ud800\x00", "- " * 50_000,
    "\"" * 100_000, "one " * 25_000, "{" * 100_000, "<|box_start|>" * 7_000,
    "x1" * 50_000, "1," * 50_000, "一" * 100_000,
]  # fmt: skip


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "example", [one for one in EXAMPLES if one["kind"] != "semantic"], ids=lambda one: str(one["kind"])
)
def test_no_reply_breaks_a_verifier(example: dict[str, object]) -> None:
    truth = truth_from(example)
    assert [said[:20] for said in NASTY if judge(truth, said).right] == []


def test_words_of_one_meaning_by_a_real_encoder() -> None:
    truth = truth_from(
        {"kind": "semantic", "value": "A man rides a horse.", "model": embedding_models.minilm(), "min_cosine": 0.7}
    )
    assert judge(truth, "<answer>A person is riding a horse.</answer>").right
    assert not judge(truth, "A bowl of soup stands on the table.").right
    assert not judge(truth, "<think>A man rides a horse.").right


@pytest.mark.parametrize(
    ("answer", "right"),
    [("No, there is none.", True), ("Yes", False), ("Yes and no.", False), ("No or yes", False), ("Nobody", False)],
)
def test_a_yes_or_no_may_go_on(answer: str, right: bool) -> None:
    assert judge(truth_from({"kind": "exact", "value": "No"}), answer).right is right
