"""The one scan of a text against its statistics told in plain Python, and rules on texts that break them."""

import re
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine.operators.text_scan import COLUMNS, scan
from data_engine.operators.web_text import Thresholds, WebText

PIECES = st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "naïve", "2024", "中", "文", "的"])
GLUE = st.sampled_from([" ", "  ", "\n", "\n\n", ". ", "...", "… ", "# ", ", ", "! ", "。", "\n- ", "\n• "])


@st.composite
def texts(draw: st.DrawFn) -> str:
    return "".join(draw(PIECES) + draw(GLUE) for _ in range(draw(st.integers(0, 40))))


def words(text: str) -> list[str]:
    return re.findall(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+", text.casefold())


def plain(text: str) -> dict[str, float]:
    """The statistics that a few lines of Python can tell."""
    found, size = words(text), max(len(text), 1)
    every = max(len(found), 1)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    counts: dict[str, float] = {
        "num_chars": len(text),
        "num_words": len(found),
        "mean_word_length": sum(map(len, found)) / every,
        "longest_word": max(map(len, found), default=0),
        "alpha_word_share": sum(any(c.isalpha() for c in word) for word in found) / every,
        "stop_words": len({"the", "的"} & set(found)),
        "han_share": len(re.findall(r"[\u4e00-\u9fff]", text)) / size,
        "hash_share": text.count("#") / every,
        "ellipsis_share": (text.count("...") + text.count("…")) / every,
        "bullet_line_share": sum(line[0] in "-•" for line in lines) / max(len(lines), 1),
        "ellipsis_line_share": sum(line.endswith(("...", "…")) for line in lines) / max(len(lines), 1),
        "short_line_share": sum(len(line) <= 30 for line in lines) / max(len(lines), 1),
        "duplicate_line_share": (len(lines) - len(set(lines))) / max(len(lines), 1),
        "newlines_per_word": text.count("\n") / every,
    }
    for n in (2, 3, 4):
        grams = [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]
        top = Counter(grams).most_common(1)
        counts[f"top_{n}gram_chars"] = (
            sum(n - 1 + sum(map(len, g)) for g in [top[0][0]]) * top[0][1] / size if top else 0
        )
    for n in range(5, 11):
        counts[f"duplicate_{n}gram_chars"] = repeated(found, n) / size
    return counts


def repeated(found: list[str], n: int) -> int:
    seen, chars, at = set(), 0, 0
    while at <= len(found) - n:
        gram = tuple(found[at : at + n])
        if gram in seen:
            chars += sum(map(len, gram))
            at += n
        else:
            seen.add(gram)
            at += 1
    return chars


@settings(max_examples=300)
@given(text=texts())
def test_the_scan_says_what_plain_python_says(text: str) -> None:
    found = {name: column[0].as_py() for name, column in scan(pa.array([text])).items()}
    expected = plain(text)
    # The commonest n-gram is not unique where several are as common: any of them is right.
    ties = {f"top_{n}gram_chars" for n in (2, 3, 4)}
    for name in set(expected) - ties:
        assert found[name] == pytest.approx(expected[name]), name
    for n in (2, 3, 4):
        assert (found[f"top_{n}gram_chars"] > 0) == (expected[f"top_{n}gram_chars"] > 0)


def test_one_row_does_not_change_another() -> None:
    rows = ["the cat sat on the mat. " * 20, "", "不同的文字。" * 9, "x"]
    together = scan(pa.array(rows))
    for place, row in enumerate(rows):
        alone = scan(pa.array([row]))
        assert [together[name][place].as_py() for name in COLUMNS] == [alone[name][0].as_py() for name in COLUMNS]


GOOD = (
    "The committee met on Tuesday to discuss the plan that had been drawn up with care. Its chairman, a retired "
    "engineer, said that no bridge of such length could be built before the spring floods. Others were less sure. "
    "Have we not waited long enough, asked the baker, whose carts go round by the hills every morning? In the end "
    "they voted to measure the river once more and to write to the county for money. Nobody spoke of the old ferry, "
    "which sank last year."
)
GOOD_ZH = (
    "周二上午，委员会讨论了那份精心准备的计划。主席是一位退休的工程师，他认为这么长的桥不可能在春汛以前建成。"
    "其他人却不这样想。面包师问道，难道我们等得还不够久吗？每天清晨他的马车都要绕过山岗才能进城。"
    "最后大家投票决定再测量一次河流，并且写信向县里申请经费。没有人提起去年沉没的那条旧渡船。"
)


def verdict(text: str, **changes: Any) -> str | None:
    operator = WebText(**changes)
    batch = pa.table({"text": [text]})
    reason: str | None = operator.decide(pa.table(operator.measure(batch)))[0].as_py()
    return reason


@pytest.mark.parametrize("text", [GOOD, GOOD_ZH])
def test_prose_passes(text: str) -> None:
    assert verdict(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("too short to say", "gopher: too few words"),
        (GOOD + " # " * 60, "gopher: too many hashes"),
        ("the of and " * 3 + "supercalifragilisticexpialidocious " * 60, "gopher: words too long"),
        ("\n".join(f"- {line}." for line in GOOD.split(". ")), "gopher: mostly bullets"),
        ("\n".join([GOOD.split(". ", maxsplit=1)[0] + "."] * 12), "gopher: repeated lines"),
        (GOOD.replace(".", "").replace("?", "").replace(",", "\n"), "fineweb: lines do not end"),
        (GOOD_ZH[:60], "gopher: too few words"),
        ((GOOD_ZH[:21] + "\n") * 9, "gopher: repeated lines"),
    ],
)
def test_what_breaks_a_rule_is_dropped_by_it(text: str, reason: str) -> None:
    assert verdict(text) == reason


def test_c4_rules() -> None:
    assert verdict(GOOD + " So { x }.", rules=("c4",)) == "c4: curly bracket"
    assert verdict(GOOD + " Lorem Ipsum dolor.", rules=("c4",)) == "c4: lorem ipsum"
    assert verdict("One sentence only.", rules=("c4",)) == "c4: too few sentences"
    assert verdict(GOOD.replace(". ", ".\n"), rules=("c4",), spaced=Thresholds(min_sentences=6)) is None


def test_no_rule_at_all_is_a_wrong_recipe() -> None:
    with pytest.raises(ValueError, match="rules"):
        WebText.model_validate({"rules": []})
