"""Instruction samples: turns, media references, types and difficulty, each against planted faults or brute force."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_engine import sample as samples
from data_engine import taxonomy
from data_engine.operators.sft import Difficulty, MediaReference, TaskType, TurnOrder
from data_engine.sample import Media, Message, Part, Sample, Trial, assistant, document, user
from data_engine.taxonomy import Topics, vocabulary

SYSTEM = Message("system", (Part("text", "be brief"),))
SHOWN = Part("image", media=(0,))


def batch(*conversations: tuple[Message, ...], media: int = 0, **rest: Any) -> pa.Table:
    found = [
        Sample("c", "text", "t", turns, tuple(Media("image", f"k{i}") for i in range(media)), **rest)
        for turns in conversations
    ]
    return samples.to_table(found)


@pytest.mark.parametrize(
    ("turns", "fault"),
    [
        ((user("q"), assistant("a")), None),
        ((SYSTEM, user("q"), assistant("a"), user("q"), assistant("a")), None),
        ((document("words"),), None),
        ((assistant("a"),), "turns out of order"),
        ((user("q"), user("q"), assistant("a")), "turns out of order"),
        ((user("q"), SYSTEM, assistant("a")), "turns out of order"),
        ((user("q"), assistant("a"), user("q")), "ends without an answer"),
        ((user("q"),), "ends without an answer"),
        ((user("q"), assistant(" \n")), "empty answer"),
        ((user("q"), assistant(""), user("q"), assistant("a")), "empty answer"),
    ],
)
def test_turns(turns: tuple[Message, ...], fault: str | None) -> None:
    whole = batch((user("q"), assistant("a")), turns, (user("q"), assistant("a")))
    measures = pa.table(TurnOrder().measure(whole))
    assert TurnOrder().decide(measures).to_pylist() == [None, fault, None]


def test_a_slice_is_judged_like_a_whole() -> None:
    whole = batch(*[(user("q"), assistant("a"))] * 3, (user("q"),), (user(SHOWN, "q"), assistant("a")), media=0)
    part = whole.slice(3, 2)
    assert TurnOrder().measure(part)["turn_fault"].to_pylist() == ["ends without an answer", None]
    assert MediaReference().measure(part)["reference_fault"].to_pylist() == [
        None,
        "reference to a medium that is not there",
    ]


@pytest.mark.parametrize(
    ("parts", "media", "fault"),
    [
        (([0],), 1, None),
        (([0], [1]), 2, None),
        (([],), 0, None),
        (([0],), 2, "a medium is never shown"),
        (([1], [0]), 2, "media shown out of order"),
        (([0], [2]), 2, "reference to a medium that is not there"),
        (([0], [0]), 1, None),
        (([0], [1], [0]), 2, None),
        (([0], [0]), 2, "a medium is never shown"),
        (([1], [0], [1]), 2, "media shown out of order"),
    ],
)
def test_references(parts: tuple[list[int], ...], media: int, fault: str | None) -> None:
    shown = [Part("image", media=tuple(places)) for places in parts if places]
    measures = pa.table(MediaReference().measure(batch((user(*shown, "q"), assistant("a")), media=media)))
    assert MediaReference().decide(measures).to_pylist() == [fault]


@pytest.mark.parametrize("words", ["What is in this image?", "图中有几个人？"])
def test_a_picture_that_is_spoken_of_must_be_there(words: str) -> None:
    measures = pa.table(MediaReference().measure(batch((user(words), assistant("a")))))
    assert MediaReference().decide(measures).to_pylist() == ["speaks of a picture that is not there"]
    assert MediaReference(allow_unseen=True).decide(measures).to_pylist() == [None]


@given(st.lists(st.tuples(st.lists(st.integers(-1, 4), max_size=5), st.integers(0, 4)), min_size=1, max_size=5))
def test_references_by_brute_force(rows: list[tuple[list[int], int]]) -> None:
    def fault(shown: list[int], count: int) -> str | None:
        if any(not 0 <= index < count for index in shown):
            return "reference to a medium that is not there"
        if set(shown) != set(range(count)):
            return "a medium is never shown"
        return None if list(dict.fromkeys(shown)) == list(range(count)) else "media shown out of order"

    table = pa.concat_tables(
        [batch((user(*(Part("image", media=(i,)) for i in shown), "q"),), media=count) for shown, count in rows]
    )
    assert MediaReference().measure(table)["reference_fault"].to_pylist() == [fault(*row) for row in rows]


def test_an_empty_part_without_topics_has_types_too() -> None:
    assert TaskType(num_topics=0).measure(batch())["task_type"].to_pylist() == []


def test_difficulty_is_the_formula_and_drops_what_is_too_easy() -> None:
    trials = [
        (),
        (Trial(True, 10),) * 4,
        (Trial(True, 900),) * 4,
        (Trial(True, 10), Trial(False, 30)),
        (Trial(True, 5),),
    ]
    whole = pa.concat_tables([batch((user("q"), assistant("a")), trials=each) for each in trials])
    measures = pa.table(Difficulty().measure(whole))
    expected = [None, 1 - np.exp(-10 / 512), 1 - np.exp(-900 / 512), 1 - 0.5 * np.exp(-20 / 512), 1 - np.exp(-5 / 512)]
    assert measures["difficulty"].to_pylist() == pytest.approx(expected)
    assert Difficulty().decide(measures).to_pylist() == [None, "too easy", None, None, None]


@pytest.mark.parametrize(
    ("question", "answer", "path"),
    [
        ("How many dogs are there?", "3", "vqa/count/number"),
        ("图中有几只狗？", "三", "vqa/count/word"),
        ("Is the sky blue?", "Yes.", "vqa/verify/yes-no"),
        ("天是蓝的吗？", "是", "vqa/verify/yes-no"),
        ("Pick.\nA. one\nB. two", "B", "vqa/choose/option"),
        ("Locate the cat", "<|box_start|>[[1, 2, 3, 4]]<|box_end|>", "vqa/locate/shape"),
        ("Why does ice float?", "Because it is lighter than water, which is rare.", "vqa/why/phrase"),
        ("Hm", "x" * 500, "vqa/other/paragraph"),
    ],
)
def test_types_are_told_by_question_and_answer(question: str, answer: str, path: str) -> None:
    columns = [pa.array([text]) for text in ("vqa", question, answer, "topic")]
    assert taxonomy.task_types(*columns).to_pylist() == [f"{path}/topic"]


def test_a_path_that_came_with_the_sample_stays() -> None:
    columns = [pa.array([text]) for text in ("math/algebra", "How many?", "3", "topic")]
    assert taxonomy.task_types(*columns).to_pylist() == ["math/algebra"]


def test_the_topic_is_the_rarest_word_the_vocabulary_knows() -> None:
    texts = ["the dog runs"] * 30 + ["the dog barks"] * 9 + ["狗在跑步"] * 12 + ["猫在睡觉"] * 6 + ["once"]
    words = vocabulary(texts, 100, 5)
    assert "once" not in words and words.index("dog") < words.index("barks")
    found = Topics(words).of(pa.array(["A DOG barks", "dog runs", "nothing", "貓在睡覺吗", ""])).to_pylist()
    assert found[:3] == ["barks", "runs", "other"] and found[3] in {"猫在", "在睡", "睡觉"} and found[4] == "other"
