"""The one record: stable ids, round trips, older versions readable."""

import dataclasses

import pytest

from data_engine import sample as samples
from data_engine.sample import Media, Part, Sample, assistant, document, user


def vqa(**changes: object) -> Sample:
    base = Sample(
        corpus="shapes",
        modality="image",
        task="vqa",
        messages=(user(Part("image", media=(0,)), "what colour?"), assistant("red")),
        media=(Media("image", "ab" * 32 + ".png"),),
        licence="MIT",
        origin="train.jsonl:1",
    )
    return dataclasses.replace(base, **{"id": "", **changes})  # type: ignore[arg-type]


def test_the_id_is_of_the_content_and_nothing_else() -> None:
    assert vqa().id == vqa(licence="GPL", origin="elsewhere", corpus="other", parents=("x",)).id
    assert vqa().id != vqa(messages=(user(Part("image", media=(0,)), "what colour?"), assistant("blue"))).id
    assert vqa().id != vqa(media=(Media("image", "cd" * 32 + ".png"),)).id
    assert vqa().id != vqa(media=(Media("image", "ab" * 32 + ".png", start=1.0),)).id


def test_the_id_of_version_1_never_moves() -> None:
    """Ids are keys of side tables already written: a change here orphans them."""
    assert vqa().id == "cb9ea9a4b409260cd1cb0718"


def test_samples_survive_arrow_and_json_rows() -> None:
    video = vqa(
        modality="video",
        messages=(user(Part("video", media=(0, 1)), "when?"), assistant("3.5")),
        media=(Media("video", "ab" * 32 + ".mp4", 1.0, 4.0), Media("video", "cd" * 32 + ".avi", 0.0, 3.5)),
    )
    text = Sample("t", "text", "text", (document("第一 line\nsecond"),))
    assert samples.from_table(samples.to_table([video, text, vqa()])) == [video, text, vqa()]
    assert samples.from_row(dataclasses.asdict(video)) == video


def test_rows_of_an_older_version_are_readable() -> None:
    row = dataclasses.asdict(vqa())
    for newer in ("parents", "group", "attribution", "schema_version"):
        del row[newer]
    old = samples.from_row({**row, "a_column_of_another_table": 1})
    assert (old.id, old.parents, old.group) == (vqa().id, (), "")


def test_rows_of_a_newer_version_are_refused() -> None:
    with pytest.raises(ValueError, match=r"schema_version 99 is newer"):
        samples.from_row({**dataclasses.asdict(vqa()), "schema_version": 99})
