"""Personal data: checksums against generated numbers, true and false, and masking against planted truth."""

import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from data_engine.operators import pii

DIGITS = st.text("0123456789", min_size=12, max_size=18)


def luhn_digit(body: str) -> str:
    """By the rule as it is told: double every second digit from the right, cast out nines, fill up to tens."""
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value // 10 + value % 10
    return str(-total % 10)


def identity_digit(body: str) -> str:
    """By the standard's table of weights."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    remainder = (1 - sum(int(digit) * weight for digit, weight in zip(body, weights, strict=True))) % 11
    return "X" if remainder == 10 else str(remainder)


@given(DIGITS)
def test_luhn_accepts_the_one_right_digit(body: str) -> None:
    accepted = [digit for digit in "0123456789" if pii.luhn(body + digit)]
    assert accepted == [luhn_digit(body)]


@given(DIGITS, st.integers(0, 17), st.integers(1, 9))
def test_luhn_notices_any_one_wrong_digit(body: str, place: int, change: int) -> None:
    number = body + luhn_digit(body)
    assume(place < len(number))
    wrong = number[:place] + str((int(number[place]) + change) % 10) + number[place + 1 :]
    assert pii.luhn(number) and not pii.luhn(wrong)


IDENTITY = st.builds(
    lambda area, year, month, day, order: f"{area}{year}{month:02}{day:02}{order:03}",
    *(
        st.integers(110000, 659000),
        st.integers(1900, 2029),
        st.integers(1, 12),
        st.integers(1, 28),
        st.integers(0, 999),
    ),
)


@given(IDENTITY, st.sampled_from("0123456789X"))
def test_identity_numbers_have_one_right_last_character(body: str, last: str) -> None:
    right = identity_digit(body)
    assert pii.identity_check(body + right)
    assert pii.mask(f"号码{body}{right}。") == "号码<CN_ID>。"
    if last != right:
        assert not pii.identity_check(body + last)
        assert "<CN_ID>" not in pii.mask(f"号码{body}{last}。")


@given(st.text("0123456789", min_size=14, max_size=14), st.sampled_from("3456"), st.sampled_from(["", " ", "-"]))
def test_cards_are_masked_only_with_the_right_digit(body: str, first: str, space: str) -> None:
    number = first + body
    good = number + luhn_digit(number)
    bad = number + str((int(good[-1]) + 1) % 10)
    groups = [space.join([text[:4], text[4:8], text[8:12], text[12:]]) for text in (good, bad)]
    assert pii.mask(f"Pay with {groups[0]}, please") == "Pay with <CARD>, please"
    assert pii.count(f"Pay with {groups[1]}, please")["card"] == 0


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to jane.doe+tag@mail.example.co.uk.", "Write to <EMAIL>."),
        ("邮箱zhang@example.cn，电话13812345678。", "邮箱<EMAIL>，电话<CN_MOBILE>。"),
        ("+86 138-1234-5678 or (415) 555-2671 or 415-555-2671", "<CN_MOBILE> or <PHONE> or <PHONE>"),
        ("Ring +44 20 7946 0958 or +1 (415) 555 2671.", "Ring <PHONE> or <PHONE>."),
        ("Server 8.8.8.8, 2001:4860:4860::8888 and 192.168.0.1", "Server <IP>, <IP> and 192.168.0.1"),
        (
            "at 12:30:45 on 2024-01-15, version 3.11.2, std::vector",
            "at 12:30:45 on 2024-01-15, version 3.11.2, std::vector",
        ),
        ("<|box_start|>[[123, 456, 789, 999]]<|box_end|>", "<|box_start|>[[123, 456, 789, 999]]<|box_end|>"),
        ("电话：１３８１２３４５６７８，邮箱ｚｈａｎｇ＠ｅｘａｍｐｌｅ．ｃｎ。", "电话：<CN_MOBILE>，邮箱<EMAIL>。"),
        ("身份证１１０１０５１９４９１２３１００２Ｘ，ＩＰ：８．８．８．８", "身份证<CN_ID>，ＩＰ：<IP>"),
        ("２０２４年１月，共１２３４５６７８９０１２３个", "２０２４年１月，共１２３４５６７８９０１２３个"),
        ("Call 0000000000000000 or 12345678901234567890123", "Call 0000000000000000 or 12345678901234567890123"),
    ],
)
def test_planted_data_is_masked_and_nothing_else(text: str, masked: str) -> None:
    assert pii.mask(text) == masked
    assert pii.mask(masked) == masked


FRAGMENT = st.sampled_from(
    ["a@b.cn", "+1", "(415)", "１", "＠", " ", "-", ".", ":", "8.8.8.8", "::", "13812345678", "4111 1111", "x"]
)


@given(st.lists(FRAGMENT | st.text("0123456789 .()-+:@aX", max_size=6), max_size=10))
def test_what_the_filter_passes_over_has_nothing(pieces: list[str]) -> None:
    text = "".join(pieces)
    if pii.count(text).total():
        assert pii.suspect(pa.array([text]))[0]


def test_the_operator_counts_drops_or_leaves_to_the_mask() -> None:
    texts = ["Nothing here.", "a@b.com and 8.8.8.8", None, "+1 (415) 555 2671"]
    batch = pa.table({"text": pa.array(texts, pa.string())})
    measures: Any = pa.table(pii.Pii().measure(batch))
    assert measures.to_pylist()[1] == {**dict.fromkeys(pii.Pii.looks_at, 0), "pii_email": 1, "pii_ip": 1}
    assert pii.Pii().decide(measures).to_pylist() == [None] * 4
    assert pii.Pii(action="drop").decide(measures).to_pylist() == [
        None, "personal data: email", None, "personal data: phone"
    ]  # fmt: skip
    assert pii.Pii(action="drop", allowed=1).decide(measures).to_pylist()[1:] == ["personal data: email", None, None]


def test_ten_thousand_rows_of_which_few_hit() -> None:
    random.seed(0)
    rows = ["A plain sentence about cats and dogs."] * 10_000
    places = random.sample(range(10_000), 7)
    for place in places:
        rows[place] = "Write to me@example.org"
    found = pii.Pii().measure(pa.table({"text": rows}))["pii_email"]
    assert [place for place, count in enumerate(found.to_pylist()) if count] == sorted(places)
