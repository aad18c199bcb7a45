"""Benchmark tables: written by pandas as VLMEvalKit's are, read back row by row."""

import base64
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_engine.media import MediaStore
from data_engine.sources import tables
from tests.data_engine.sources.helpers import png, read_all, reasons


def encoded(shade: int) -> str:
    return base64.b64encode(png(shade=shade)).decode()


def row(index: int, **more: Any) -> dict[str, Any]:
    fine = {"index": index, "image": encoded(index), "question": "Which?", "A": "cat", "B": "dog", "answer": "B"}
    return {**fine, **more}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    pd.DataFrame(rows).to_csv(path, sep="\t", index=False)


def test_choices_become_conversations(root, store):
    hint = 'Look\tat the "left" side.\nThen at the right.'
    write(root / "a.tsv", [row(0, hint=hint, C="cow", category="x"), row(1), row(2, question="哪一个？")])
    good, bad = read_all(tables, root, store)
    assert bad == []
    assert good[0].messages[0].text == (
        f"{hint}\nWhich?\nA. cat\nB. dog\nC. cow\nAnswer with the letter of the right option."
    )
    assert "C." not in good[1].messages[0].text and good[2].messages[0].text.endswith("请用正确选项的字母回答。")
    assert [sample.messages[1].text for sample in good] == ["B"] * 3
    assert [store.read(sample.media[0].key) for sample in good] == [png(shade=n) for n in range(3)]
    assert [sample.origin for sample in good] == ["a.tsv:2", "a.tsv:4", "a.tsv:5"]


def test_open_questions_lists_paths_and_references(root, store):
    (root / "x.png").write_bytes(png(shade=9))
    open_question = {"A": None, "B": None, "answer": "two"}
    write(
        root / "a.tsv",
        [
            row(0, image="3"),
            row(1, **open_question, image=None, image_path="x.png"),
            row(2, image=str([encoded(5), encoded(6)])),
            row(3),
            row(4, image="0"),
            row(5, **open_question, image=None),
        ],
    )
    good, bad = read_all(tables, root, store)
    assert bad == []
    shown = {s.origin: [store.read(m.key) for m in s.media] for s in good}
    assert shown == {
        "a.tsv:3": [png(shade=9)],
        "a.tsv:4": [png(shade=5), png(shade=6)],
        "a.tsv:5": [png(shade=3)],
        "a.tsv:7": [],
        "a.tsv:2": [png(shade=3)],
        "a.tsv:6": [png(shade=3)],
    }
    assert good[0].messages[0].text == "Which?" and good[0].messages[1].text == "two"
    assert [part.kind for part in good[1].messages[0].parts] == ["image", "image", "text"]


FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"answer": "C"}, "answer", "'C' is none of the options A, B"),
    ({"answer": None}, "answer", "empty"),
    ({"question": " "}, "question", "empty"),
    ({"question": "a\0b"}, "question", "NUL byte"),
    ({"A": None}, "A", "empty, though the row has options B"),
    ({"B": None, "answer": "A"}, "B", "needs two options"),
    ({"image": "A" * 101}, "image", "not base64"),
    ({"image": base64.b64encode(b"<html>" * 20).decode()}, "image", "not an image"),
    ({"image": "[" + "'" * 80}, "image", "is no list"),
    ({"image": None, "image_path": "../x.png"}, "image", "leaves the corpus folder"),
    ({"image": None, "image_path": "absent.png"}, "image", "no such file"),
    ({"index": 0}, "index", "used twice"),
    ({"image": "77"}, "image", "leads to no picture"),
    ({"index": 50, "image": "50"}, "image", "a circle"),
    ({"index": 51, "image": "52"}, "image", "a circle"),
    ({"index": 52, "image": "51"}, "image", "a circle"),
]


def test_planted_faults_are_named_by_line_and_field(root, store):
    write(root / "a.tsv", [row(0), *({**row(n), **change} for n, (change, _, _) in enumerate(FAULTS, 1)), row(99)])
    good, bad = read_all(tables, root, store)
    assert [sample.origin for sample in good] == ["a.tsv:2", f"a.tsv:{len(FAULTS) + 3}"]
    found = reasons(bad)
    for line, (_, field, reason) in enumerate(FAULTS, 3):
        assert found[f"a.tsv:{line}"][0] == field and reason in found[f"a.tsv:{line}"][1], (line, found)


@pytest.mark.parametrize(
    ("data", "locator", "reason"),
    [
        (b"", "a.tsv", "empty file"),
        (b"index\tquestion\n", "a.tsv", "header lacks answer"),
        (b"question\tanswer\n", "a.tsv", "holds no row"),
        (b"question\tanswer\nx\n", "a.tsv:2", "has 1 cells, the header 2"),
        (b"question\tanswer\nx\ty\tz\n", "a.tsv:2", "has 3 cells, the header 2"),
        (b"question\tanswer\ncaf\xe9\ty\n", "a.tsv:2", "not UTF-8"),
        (b'question\tanswer\n"' + b"x" * 50_000_002, "a.tsv:2", "cannot be read from here on: field larger"),
    ],
)
def test_damaged_files(data, locator, reason, root, store):
    (root / "a.tsv").write_bytes(data)
    good, bad = read_all(tables, root, store)
    assert good == [] and [record.locator for record in bad] == [locator] and reason in bad[0].reason


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_told(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "a.tsv").write_bytes(b"index\tquestion\tanswer\timage\n" + data)
    good, bad = read_all(tables, folder, MediaStore(folder / "store"))
    assert good or bad
