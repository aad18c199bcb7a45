"""Operators against brute force, planted text and closed forms."""

import math
import unicodedata
from collections import Counter
from itertools import pairwise
from typing import Any

import imagehash
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_engine import image_measures, judge, words
from data_engine.operators import ocr, text
from data_engine.operators.base import Operator


def verdicts(operator: Operator, **columns: list[Any]) -> list[str | None]:
    batch = pa.table(columns)
    measured = {name: pa.array(batch[name]) for name in columns} | operator.measure(batch)
    found: list[str | None] = operator.decide(pa.table(measured)).to_pylist()
    return found


def brute_duplicate_share(words: list[str], n: int) -> float:
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(Counter(grams)) / len(grams) if grams else 0.0


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=12), max_size=8), st.integers(1, 4))
def test_duplicate_ngrams_equal_brute_force(rows: list[list[str]], n: int) -> None:
    found = words.duplicate_share(pa.array([" ".join(row) for row in rows], pa.string()), n)
    assert found.tolist() == pytest.approx([brute_duplicate_share(row, n) for row in rows])


def test_every_han_character_is_a_word() -> None:
    assert words.count_words(pa.array(["红色的 frog!", None, "", "紅色 ＡＢ c3"])).tolist() == [4, 0, 0, 4]


ASSIGNED = st.characters(exclude_categories=["Cs", "Cn"], max_codepoint=words.TABLE_SIZE - 1)


@given(st.lists(st.text(ASSIGNED), max_size=6))
def test_letters_are_counted_as_unicode_has_them(rows: list[str]) -> None:
    """Against Python's own tables, character by character."""
    for value, counts in zip(rows, words.count_letters(pa.array(rows, pa.string())).tolist(), strict=True):
        names = [unicodedata.name(letter, "") if letter.isalpha() else "" for letter in value]
        latin = ["LATIN" in name for name in names]
        assert counts == [
            sum(not letter.isspace() for letter in value),
            sum(letter.isalpha() for letter in value),
            sum(name.startswith("CJK") and "IDEOGRAPH" in name for name in names),
            sum(latin),
            sum(here and not before for before, here in pairwise([False, *latin])),
            sum("HIRAGANA" in name or "KATAKANA" in name for name in names),
            sum("HANGUL" in name for name in names),
        ]


def test_latin_runs_and_scripts_of_one_text() -> None:
    assert words.count_letters(pa.array(["Ünder 紅色 Ａb, кот 12 か 한"])).tolist() == [[17, 14, 2, 7, 2, 1, 1]]


def test_text_quality_tells_prose_from_the_rest() -> None:
    prose = "The package manager keeps a record of every file that it has installed on this system."
    chinese = "软件包管理器会记录它在系统上安装的每一个文件。"
    table = "+----+----+ | -- | == | 12 | 34 | 56 | 78 | 90 | 11 | 22 | 33 | 44 |"
    letters = "a b c d e f g h i j k l m n"
    found = verdicts(text.TextQuality(), text=[prose, chinese, table, letters, "Too short."])
    assert found == [None, None, "mostly symbols", "words too short", "too few words"]


def test_language_by_script() -> None:
    sign = "牌子叫の，一只青蛙坐在石头上看着天，" * 2
    told = ["A frog.", "一只青蛙。", "Лягушка.", "12345", "これは蛙です。", "ｶｴﾙ", "개구리입니다", sign]
    spoken = text.languages(pa.array(told)).to_pylist()
    assert spoken == ["en", "zh", "other", "none", "ja", "ja", "ko", "zh"]
    found = verdicts(text.Language(allowed=("en", "zh")), language=spoken)
    assert [reason is None for reason in found] == [True, True, False, False, False, False, False, True]
    assert set(found) == {None, "language not wanted"}


# Article 1 of the Universal Declaration of Human Rights.
HUMAN = {
    "en": "All human beings are born free and equal in dignity and rights.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "ja": "すべての人間は、生まれながらにして自由である。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "zh": "人人生而自由，在尊嚴和權利上一律平等。",
    "none": "1948",
}


def test_languages_of_one_script_are_told_apart_where_that_is_asked_for() -> None:
    operator = text.Language(identify=True, allowed=("fr", "zh"))
    found = operator.measure(pa.table({"target": list(HUMAN.values())}))
    assert found["language"].to_pylist() == list(HUMAN)
    kept = [reason is None for reason in operator.decide(pa.table(found)).to_pylist()]
    assert kept == [code in {"fr", "zh"} for code in HUMAN]
    assert text.Language().measure(pa.table({"target": list(HUMAN.values())})) == {}
    identities = [judge.measured_config([("language", text.Language(identify=on))]) for on in (True, False)]
    assert identities[0] != identities[1]


def test_repetition_and_length() -> None:
    repeated = " ".join(["one two three"] * 10)
    assert verdicts(text.Repetition(max_duplicate_ngram_share=0.5), target=[repeated, "a b c d e"]) == [
        "repeats itself",
        None,
    ]
    assert verdicts(text.Length(min_words=2, max_words=4), target=["x", "青蛙", "a b c d e"]) == [
        "target too short", None, "target too long"
    ]  # fmt: skip


def test_a_threshold_changes_no_measure_but_n_does() -> None:
    def config(**fields: Any) -> Any:
        return judge.measured_config([("repetition", text.Repetition(**fields))])

    assert config(max_duplicate_ngram_share=0.1) == config(max_duplicate_ngram_share=0.9)
    assert config(n=3) != config(n=4)


def test_ocr_agreement_is_blind_to_white_space_and_case() -> None:
    assert ocr.agreement("Car Parks\nExit", "carparks EXIT") == 1.0
    assert ocr.agreement("abcd", "abxx") == pytest.approx(0.5)
    assert ocr.agreement("abc", None) is None


def test_missing_measures_break_no_rule() -> None:
    from data_engine.operators.video import Motion

    assert verdicts(Motion(min_motion=1.0), motion=[None, 0.5, 2.0]) == [None, "still video", None]


def noise(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 255, (random.integers(4, 20), random.integers(4, 20), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((160, 120)))


@pytest.mark.parametrize("seed", range(8))
def test_phash_equals_imagehash(seed: int) -> None:
    small = noise(seed)[:, :120]  # too small to be averaged first; larger ones: test_image_hash.py
    assert image_measures.phash(small) == int(str(imagehash.phash(Image.fromarray(small))), 16)


def test_entropy_and_sharpness_closed_forms() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8), 4).reshape(32, 32)
    assert image_measures.entropy(grey) == pytest.approx(8.0)
    assert image_measures.entropy(np.zeros((9, 9), np.uint8)) == 0.0
    board = (np.indices((16, 16)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert image_measures.sharpness(board) == pytest.approx((4 * 255) ** 2)
    assert image_measures.sharpness(np.full((16, 16), 7, np.uint8)) == 0.0
    assert math.isclose(image_measures.sharpness(np.tile(np.arange(16, dtype=np.uint8), (16, 1))), 0.0)
