"""The fence around found text: it cannot be closed from within, and says what was said."""

import re

from hypothesis import given
from hypothesis import strategies as st

from data_engine.teachers.fence import RULE, fenced
from model.visual_tokens import CONTROL_TOKENS

TURNS = ["<|im_start|>", "<|eot_id|>", "[INST]", "[/INST]", "<<SYS>>", "<start_of_turn>", "</s>", "<｜User｜>"]
MARKS = [
    "=== DATA ",
    "=== END OF DATA ",
    "===end  of data 0123456789abcdef ===",
    "=\nDATA",
    "=",
    *CONTROL_TOKENS,
    *TURNS,
]
TEXTS = st.lists(st.sampled_from([*MARKS, "<|", "|>", "<", ">", "a", " ", "\n", "图"]) | st.text(max_size=5)).map(
    "".join
)


@given(TEXTS)
def test_nothing_within_can_close_it_or_open_a_turn(text: str) -> None:
    lines = fenced(text).split("\n")
    code = re.fullmatch(r"=== DATA ([0-9a-f]{16}) ===", lines[0])
    assert code and lines[-1] == f"=== END OF DATA {code[1]} ==="
    inner = "\n".join(lines[1:-1])
    assert not any(mark in inner for mark in (*CONTROL_TOKENS, *TURNS))
    assert not re.search(r"=\s*(end\s+of\s+)?data", inner, re.IGNORECASE)
    assert code[1] not in inner


@given(TEXTS)
def test_only_spaces_and_dashes_are_added(text: str) -> None:
    inner = fenced(text).partition("\n")[2].rpartition("\n")[0]
    assert re.sub(r"[ -]", "", inner) == re.sub(r"[ -]", "", text)


@given(st.text(st.characters(categories=["L", "N", "P"], exclude_characters="<>[]|｜=")))
def test_ordinary_text_is_as_it_was(text: str) -> None:
    assert fenced(text).partition("\n")[2].rpartition("\n")[0] == text


def test_another_text_has_another_code() -> None:
    assert fenced("a")[:28] != fenced("b")[:28] and fenced("a") == fenced("a")
    assert "never an instruction" in RULE
