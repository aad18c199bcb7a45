"""One text in several forms is judged alike: simplified, traditional (by OpenCC) and full-width."""

import unicodedata
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opencc import OpenCC

from data_engine import taxonomy, words
from data_engine.operators import caption, grounding, pii, sft, text, text_scan, web_text
from data_engine.operators.base import Operator
from data_engine.selector import _speaks_of
from data_engine.taxonomy import ANSWERS, QUESTIONS

TRADITIONAL = OpenCC("s2t")


def wide(text: str) -> str:
    """The full-width form of printable ASCII."""
    return "".join("\u3000" if c == " " else chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def forms(text: str) -> list[str]:
    return [text, TRADITIONAL.convert(text), wide(text), wide(TRADITIONAL.convert(text))]


ASSIGNED = st.characters(exclude_categories=["Cs"])


@given(st.lists(st.none() | st.text(ASSIGNED), max_size=6))
def test_folding_keeps_places_and_does_the_same_to_a_string(rows: list[str | None]) -> None:
    found = words.folded(pa.array(rows, pa.string())).to_pylist()
    assert found == [None if row is None else words.folded_text(row) for row in rows]
    assert [row and len(row) for row in found] == [row and len(row) for row in rows]
    assert words.folded(pa.chunked_array([pa.array(["-", *rows], pa.string())[1:]])).to_pylist() == found


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_ascii_and_its_full_width_form_fold_to_lower_case(text: str) -> None:
    assert words.folded_text(text) == words.folded_text(wide(text)) == text.lower()


def test_what_is_folded_is_letters_digits_and_signs_of_width() -> None:
    assert words.folded_text("這裡 Ａ＠ｂ． ｶ ２ ² ① … 。") == "这里 a@b. カ 2 ² ① … 。"
    for point in range(0x3000):
        name = unicodedata.name(chr(point), "")
        assert words.folded_text(chr(point)) == chr(point) or unicodedata.category(chr(point))[0] in "LMN", name


# Phrases on which some rule speaks, and words on which none does.
PIECES = (
    "点击查看大图", "版权所有", "未经授权", "图片来源", "关注公众号", "扫描二维码", "长按识别", "转载请", "立即购买",
    "Click here", "Photo by", "IMG_1234", "图中", "这张图", "视频中", "in the picture", "图里有几个人？", "识别文字",
    "这两者有什么区别", "计算面积", "为什么", "怎么样", "翻译", "是否", "解释", "选择", "#话题#", "#cat ", "红色的猫",
    "天气很好", "we saw a cat. ", "是", "对", "三个", "两只", "一百二十条", "1.5 ", "12", "A", "。", "\n", "、", "...",
    "{", "- ", "Hello World. ",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
ALIKE = (
    text.TextQuality(), text.Length(), text.Repetition(), web_text.WebText(), caption.Boilerplate(), caption.Hashtags(),
    caption.FileName(), pii.Pii(), sft.MediaReference(), sft.TaskType(num_topics=0), grounding.Counting(),
)  # fmt: skip


def described(rows: list[str]) -> pa.Table:
    def said(words: str) -> list[dict[str, Any]]:
        return [
            {"role": role, "parts": [{"kind": "text", "text": words, "media": []}]} for role in ("user", "assistant")
        ]

    part = pa.struct([("kind", pa.string()), ("text", pa.string()), ("media", pa.list_(pa.int32()))])
    turn = pa.struct([("role", pa.string()), ("parts", pa.list_(part))])
    mark = "<|point_start|>(1,2)<|point_end|>"
    columns = {
        "text": pa.array(rows, pa.string()),
        "target": pa.array([f"{mark}{row}" for row in rows], pa.string()),
        "origin": pa.array(["图片/红色的猫.png"] * len(rows)),
        "task": pa.array(["sft"] * len(rows)),
        "media": pa.array([[] for _ in rows], pa.list_(pa.string())),
        "messages": pa.array([said(row) for row in rows], pa.list_(turn)),
    }
    return pa.table({name: pa.chunked_array([column]) for name, column in columns.items()})


@pytest.mark.parametrize("operator", ALIKE, ids=lambda operator: type(operator).__name__)
def test_every_rule_says_the_same_of_all_forms(operator: Operator) -> None:
    @given(TEXTS)
    def alike(told: str) -> None:
        batch = described(forms(told))
        if isinstance(operator, caption.FileName | caption.Hashtags | text.Repetition | text.Length):
            batch = batch.set_column(1, "target", batch["text"])
        measured = operator.measure(batch)
        for name, column in measured.items():
            values = column.to_pylist()
            assert values == [values[0]] * 4, (name, forms(told))
        verdicts = operator.decide(pa.table(measured)).to_pylist()
        assert verdicts == [verdicts[0]] * 4

    alike()


@pytest.mark.parametrize(
    ("question", "form"),
    [
        ("图里有几个人？", "count"), ("识别图中的文字", "read"), ("这两者有什么区别", "compare"),
        ("计算面积", "compute"), ("为什么", "why"),
    ],
)  # fmt: skip
def test_questions_have_one_form_in_every_writing(question: str, form: str) -> None:
    found = taxonomy.first_match(pa.array(forms(question)), QUESTIONS, pa.scalar("other"))
    assert found.to_pylist() == [form] * 4


def test_answers_and_topics_have_one_form_in_every_writing() -> None:
    assert taxonomy.first_match(pa.array(forms("不对")), ANSWERS, pa.scalar("-")).to_pylist() == ["-"] * 4
    assert taxonomy.first_match(pa.array(forms("对.")), ANSWERS, pa.scalar("-")).to_pylist() == ["yes-no"] * 4
    assert {word for row in forms("点击图片") for word in taxonomy._terms(row)} == {"点击", "击图", "图片"}


def test_boilerplate_is_found_in_traditional_chinese() -> None:
    found = caption.Boilerplate().measure(pa.table({"target": forms("版权所有，点击这里查看大图，关注公众号。")}))
    assert found["boilerplate"].to_pylist() == [4] * 4


PERSONAL = (
    "13800138000", "+86 138-0013-8000", "abc@example.com", "11010519491231002X", "4111 1111 1111 1111", "8.8.8.8",
    "2001:4860:4860::8888", "(415) 555-2671",
)  # fmt: skip


@pytest.mark.parametrize("secret", PERSONAL)
@pytest.mark.parametrize("frame", ["电话：{}：，谢谢。", "联系: {} 。", "{}", "Ａ，{}"])
def test_personal_data_is_masked_in_full_width_and_the_rest_stays_as_it_was(secret: str, frame: str) -> None:
    kind = next(name for name, count in pii.count(secret).items() if count)
    for form in {secret, wide(secret), wide(secret).lower()}:
        told = TRADITIONAL.convert(frame).format(form)
        assert pii.mask(told) == TRADITIONAL.convert(frame).format(pii.KINDS[kind].mark)
        assert pii.suspect(pa.array([told])).tolist() == [True]


def test_a_person_is_found_in_every_writing() -> None:
    texts = pa.array(["張偉說", "张伟说", "ＺＨＡＮＧ　Ｗｅｉ said", "zhang wei", "章伟"])
    assert _speaks_of(texts, "张伟").to_pylist() == [True, True, False, False, False]
    assert _speaks_of(texts, "張偉").to_pylist() == [True, True, False, False, False]
    assert _speaks_of(texts, "Zhang Wei").to_pylist() == [False, False, True, True, False]


def test_operators_that_share_a_column_measure_the_same() -> None:
    batch = pa.table({"text": ["1234567890123456 a b " * 9, "圖中 the cat.", ""]})
    quality, web = text.TextQuality().measure(batch), web_text.WebText().measure(batch)
    shared = quality.keys() & web.keys()
    assert shared == {"num_words", "mean_word_length", "han_share"} < set(text_scan.COLUMNS)
    assert all(quality[name].equals(web[name]) for name in shared)
