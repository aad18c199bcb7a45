"""Chinese numerals: every number up to 200,000 written by the rules of the language and read again."""

import pytest

from data_engine import numerals
from data_engine.operators.grounding import stated_number

DIGITS = "零一二三四五六七八九"


def written(number: int, inner: bool = False) -> str:
    """A number under 10^8, group by group of four digits, with 零 where places are passed over."""
    if number >= 10_000:
        high, low = divmod(number, 10_000)
        return written(high) + "万" + ("" if not low else ("零" if low < 1000 else "") + written(low, inner=True))
    text, gap = "", False
    for unit, size in (("千", 1000), ("百", 100), ("十", 10), ("", 1)):
        digit = number // size % 10
        if digit:
            text += ("零" if gap and text else "") + DIGITS[digit] + unit
        gap = not digit
    if not inner and 10 <= number < 20:
        text = text.removeprefix("一")
    return text or "零"


def test_every_number_up_to_200_000_comes_back() -> None:
    wrong = {n: written(n) for n in range(200_001) if numerals.parse(written(n)) != n}
    assert wrong == {}


@pytest.mark.parametrize(
    ("numeral", "number"),
    [
        ("两千", 2000), ("廿三", 23), ("卅", 30), ("一百二", 120), ("三千五", 3500), ("一万二", 12_000),
        ("二〇二六", 2026), ("二〇", 20), ("一百十二", 112), ("三亿零五万", 300_050_000), ("两万亿", 2 * 10**12),
    ],
)  # fmt: skip
def test_as_people_write_them(numeral: str, number: int) -> None:
    assert numerals.parse(numeral) == number


@pytest.mark.parametrize("numeral", ["", "三四", "七八十", "万", "百", "十十", "一百一百", "一千万千", "猫"])
def test_what_is_no_certain_number(numeral: str) -> None:
    assert numerals.parse(numeral) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("共有一百二十个。", 120), ("有三個蘋果", 3), ("有兩隻貓", 2), ("一萬兩千條魚", 12_000), ("兩億個", 2 * 10**8),
        ("廿五張", 25), ("有３个", 3), ("１，２３４ 个", 1234), ("3万个", 30_000), ("Ｔｈｒｅｅ cats", 3), ("５ m²", 5),
        ("第三个", None), ("几十个", None), ("三四个", None), ("一起看两个和三个", None),
    ],
)  # fmt: skip
def test_the_number_that_a_text_states(text: str, number: int | None) -> None:
    assert stated_number(text) == number
