"""Interleaved documents: mojibake made as it is made, order against brute force, pictures beside wrong words."""

import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_engine import sample as samples
from data_engine.describe import PICTURE
from data_engine.media import MediaStore
from data_engine.operators import interleaved
from data_engine.sample import Media, Message, Part, Sample
from tests.data_engine.operators.conftest import draw

FRENCH = "Les élèves étudient à l’école près du théâtre où ils répètent une pièce."


def shares(*texts: str) -> list[float]:
    found: list[float] = interleaved.garbled_share(pa.array(texts)).to_pylist()
    return found


@pytest.mark.parametrize(
    "text",
    [
        FRENCH,
        "统计信息和图像文字的交错文档。",
        "统计信息“和”图像……文字——的《交错》文档。",
        "Привет, как дела сегодня?",
        "“Quotes” — and dashes…",
        "He said “at the café…” and left — “naïve”, they’d say; a cliché’s “déjà–vu”.",
        "«\u00a0Été\u00a0» et «\u00a0à la volée\u00a0»\u00a0; voilà… l’année dernière à Marienbad®\u00a0!",
        "¿Qué…? «Así», dijo José. “Sí…” EL AÑO ESPAÑOL”",
        "“MAÇÃ”, a IRMÃ… e AMANHÃ — NÃO",
    ],
)
@pytest.mark.parametrize("wrong", ["latin-1", "cp1252"])
def test_real_mojibake_is_seen_and_the_text_it_was_is_not(text: str, wrong: str) -> None:
    mojibake = text.encode().decode(wrong, errors="replace")
    good, bad = shares(text, mojibake)
    special = sum(len(letter.encode()) for letter in text if ord(letter) > 127)  # each byte is a character now
    assert good == 0 and bad == pytest.approx(special / len(mojibake))


MARKS = "\u00a0«»‘’“”…–—‹›™©®ª°²³¹º"


@given(st.sampled_from("àáâãäåæçèéêëìíîïð"), st.text(MARKS, max_size=2), st.sampled_from([" x", ""]))
def test_marks_behind_a_letter_with_an_accent_are_no_mojibake(letter: str, marks: str, rest: str) -> None:
    assert shares(f"caf{letter}{marks}{rest}") == [0]


def test_real_texts_are_not_garbled(corpora: Any) -> None:
    texts = [path.read_text(encoding="utf-8")[:200_000] for path in sorted((corpora / "text").rglob("*.txt"))]
    assert len(texts) >= 2 and max(shares(*texts)) < 0.0005


def test_senseless_characters_are_counted_and_taken_out() -> None:
    rows = {"a\ufffdb": 1 / 3, "tab\tand\nline": 0.0, "\x00\x07": 1.0, "\ue000x": 0.5, "锟斤拷": 1.0, "": 0.0}
    assert shares(*rows) == pytest.approx(list(rows.values()))
    verdicts = interleaved.Garbled(max_share=0.4).decide(pa.table({"garbled_share": shares(*rows)}))
    assert verdicts.to_pylist() == [None, None, "garbled text", "garbled text", "garbled text", None]
    assert interleaved.ungarbled(pa.array(list(rows)))[:4].to_pylist() == ["ab", "tab\tand\nline", "", "x"]


def document(parts: list[Part], media: tuple[Media, ...]) -> Sample:
    return Sample("c", "image", "interleaved", (Message("document", tuple(parts)),), media)


@given(st.lists(st.tuples(st.lists(st.integers(0, 3), max_size=5), st.integers(0, 4)), min_size=1, max_size=5))
def test_order_equals_brute_force(rows: list[tuple[list[int], int]]) -> None:
    made = []
    for shown, count in rows:
        parts = [Part("image", media=(place,)) for place in shown]
        parts.insert(len(parts) // 2, Part("text", text="words"))
        turns = tuple(Message("user", (part,)) for part in parts)
        media = tuple(Media("image", f"{n:064}") for n in range(count))
        made.append(Sample("c", "image", "interleaved", turns, media))
    table = samples.to_table(made)
    expected = [list(dict.fromkeys(shown)) == list(range(count)) for shown, count in rows]
    assert interleaved.in_order(table["messages"], table["media"]).tolist() == expected
    if len(rows) > 1:
        rest = table.slice(1)
        assert interleaved.in_order(rest["messages"], rest["media"]).tolist() == expected[1:]


def test_each_rule_of_a_document() -> None:
    def picture(side: int) -> dict[str, Any]:
        return {"key": "k", "kind": "image", "width": side, "height": 200}

    pictures = [[picture(100)], [picture(100), None], [picture(9)], [picture(100)] * 3, [picture(100)], []]
    texts = ["ten chars.", "ten chars.", "ten chars.", "ten chars.", "x" * 99, "x" * 99]
    media = [tuple(Media("image", f"{n:064}") for n in range(len(row))) for row in pictures]
    made = [document([Part("image", media=(n,)) for n in range(len(row))], row) for row in media]
    table = samples.to_table(made)
    table = table.append_column("pictures", pa.array(pictures, pa.list_(PICTURE))).append_column(
        "text", pa.array(texts)
    )
    operator = interleaved.Interleaved(max_images=2, max_letters_per_image=50)
    verdicts = operator.decide(pa.table(operator.measure(table))).to_pylist()
    assert verdicts == [
        None, "picture does not open", "picture too small", "too many pictures", "too few pictures for its words", None
    ]  # fmt: skip


def test_words_beside_a_picture() -> None:
    media = [{"key": key, "start": None} for key in "abc"]
    media.append({"key": "v", "start": 2.0})

    def parts(*kinds: int | str) -> list[dict[str, Any]]:
        return [
            {"kind": "text", "text": kind, "media": []} if isinstance(kind, str) else
            {"kind": "image", "text": None, "media": [kind]}
            for kind in kinds
        ]  # fmt: skip

    found = interleaved.beside([{"parts": parts("one", 0, 1, " ")}, {"parts": parts("two", 3, 2)}], media)
    assert found == [[("a", "one"), ("a", "two")], [("b", "one"), ("b", "two")], [("c", "two")]]


def test_pictures_beside_wrong_words_score_lower(scorer: Path, tmp_path: Path) -> None:
    store, keys = MediaStore(tmp_path / "media"), {}
    for colour in ("red", "blue", "green"):
        draw(colour, 20).save(tmp_path / "one.png")
        keys[colour] = store.put_file(tmp_path / "one.png")
    rows = []
    for told in (("red", "blue", "green"), ("blue", "green", "red")):
        texts = [Part("text", text=f"A {colour} thing.") for colour in told]
        images = [Part("image", media=(place,)) for place in range(3)]
        parts = list(itertools.chain.from_iterable(zip(texts, images, strict=True)))
        rows.append(document(parts, tuple(Media("image", key) for key in keys.values())))
    rows.append(document([Part("text", text="No picture.")], ()))
    operator = interleaved.InterleavedMatch(model=str(scorer), min_percentile=50)
    measures = pa.table(operator.measure_media(samples.to_table(rows), store))
    right, wrong, none = measures["interleaved_match"].to_pylist()
    assert right > wrong and none is None
    verdicts = operator.decide(measures).to_pylist()
    assert verdicts == [None, "pictures and the words beside them do not match", None]
