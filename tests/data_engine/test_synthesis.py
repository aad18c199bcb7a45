"""Every answer of a video task is derived again from its references alone, by brute force."""

import re
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np
import pytest

from data_engine import video
from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Media, Sample
from data_engine.sources import video_truth
from data_engine.sources.common import Quarantined
from strict_yaml import RecipeError

FPS = 2.0
COLOURS = {"red.mp4": (1, 0, 0), "green.mp4": (0, 1, 0), "blue.mp4": (0, 0, 1)}
NAMES = {f"{colour}.mp4": {"en": f"the {colour} film", "zh": f"{colour}片"} for colour in ("red", "green", "blue")}


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """Three real, plain videos of 30 s: red, green and blue, brighter as time goes on."""
    folder = tmp_path_factory.mktemp("films")
    for name, colour in COLOURS.items():
        r, g, b = (f"{channel}*(60+150*T/30)" if channel else "0" for channel in colour)
        (
            ffmpeg.input("color=black:size=32x32:rate=10:duration=30", f="lavfi")
            .filter("format", "rgb24")
            .filter("geq", r=r, g=g, b=b)
            .output(str(folder / name), pix_fmt="yuv420p", loglevel="error")
            .run()
        )
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> MediaStore:
    return MediaStore(tmp_path_factory.mktemp("store"))


def make(root: Path, store: MediaStore, **options: Any) -> tuple[list[Sample], list[Quarantined]]:
    settings = {"names": NAMES, "clip_seconds": [4, 6], **options}
    source = Source(format="video_truth", path=".", modality="video", task="video", licence="MIT", options=settings)
    units = video_truth.units(root, source.options)
    found = [record for unit in units for record in video_truth.read(root, unit, "corpus", source, store)]
    return [r for r in found if isinstance(r, Sample)], [r for r in found if isinstance(r, Quarantined)]


def played(media: tuple[Media, ...]) -> list[tuple[str, float]]:
    """What a player of the spans shows: (key, source time) of each frame on the grid, one after the other."""
    return [
        (item.key, tick / FPS)
        for item in media
        for tick in range(1000)
        if item.start <= tick / FPS < item.end  # type: ignore[operator]
    ]


def derive(sample: Sample, names: dict[str, dict[str, str]]) -> str:
    """The answer that the references imply; `names`: by media key."""
    question, chinese = sample.messages[0].text, bool(re.search("[\u4e00-\u9fff]", sample.messages[0].text))
    if sample.task == "frame_order":
        return " ".join(letter for _, letter in sorted(zip((m.start for m in sample.media), "ABCD", strict=True)))
    if sample.task == "which_first":
        first, second = sample.media
        return "A" if first.end <= second.start else "B"  # type: ignore[operator]
    if sample.task == "video_match":
        (near,) = [n for n, item in enumerate(sample.media[2:]) if item.key == sample.media[0].key]
        return "ABCD"[near]
    shown = played(sample.media)
    if sample.task == "splice_time":
        (change,) = [n for n, (a, b) in enumerate(pairwise(shown), start=1) if a[0] != b[0]]
        return f"{change / FPS:.1f} " + ("秒" if chinese else "s")
    moment = float(re.search(r"\d+\.\d", question)[0])  # type: ignore[index]
    name = names[shown[round(moment * FPS)][0]]["zh" if chinese else "en"]
    return name[0].upper() + name[1:] + ("。" if chinese else ".")


@pytest.fixture(scope="module")
def tasks(films, store) -> list[Sample]:
    good, bad = make(films, store)
    assert bad == []
    return good


def test_every_answer_follows_from_the_references(tasks, films, store):
    names = {store.put_file(films / name): called for name, called in NAMES.items()}
    assert Counter(sample.task for sample in tasks) == dict.fromkeys(video_truth.TASKS, 100)
    for sample in tasks:
        assert sample.messages[1].text == derive(sample, names), sample
        assert len({sample.messages[0].role, sample.messages[1].role}) == 2


def test_the_pictures_themselves_bear_the_answers_out(tasks, films, store):
    """Frames are decoded by ffmpeg: the colour tells the film, the brightness the time."""
    shown = {}
    for name in NAMES:
        frames = video.sample_frames(films / name, video.probe(films / name), fps=FPS, max_side=32)
        shown[store.put_file(films / name)] = [frame.mean(axis=(0, 1)) for frame in frames]
    for sample in tasks:
        answer = sample.messages[1].text
        if sample.task == "splice_time":
            colours = [int(np.argmax(shown[key][round(time * FPS)])) for key, time in played(sample.media)]
            at = round(float(answer.split()[0]) * FPS)
            assert len(set(colours[:at])) == len(set(colours[at:])) == 1 and colours[at - 1] != colours[at]
        if sample.task == "frame_order":
            light = [shown[m.key][round((m.start or 0) * FPS)].max() for m in sample.media]
            in_order = [light["ABCD".index(letter)] for letter in answer.split()]
            assert in_order == sorted(in_order) and len(set(in_order)) == 4


def test_references_lie_on_the_grid_inside_the_films(tasks):
    for sample in tasks:
        for media in sample.media:
            times = [time for time in (media.start, media.end) if time is not None]
            assert all(time * FPS == int(time * FPS) and 0 <= time <= 30 for time in times)
        lengths = sum(media.end - media.start for media in sample.media if media.end is not None)
        if sample.task in ("splice_time", "which_clip"):
            assert 4 <= lengths <= 6 and len({media.key for media in sample.media}) == 2
        elif sample.task == "which_first":
            a, b = sorted(sample.media, key=lambda media: media.start or 0)
            assert b.start - a.end >= 6  # type: ignore[operator]
        elif sample.task == "video_match":
            near = sorted(m.start or 0 for m in sample.media if m.key == sample.media[0].key)
            length = sample.media[0].end - sample.media[0].start  # type: ignore[operator]
            assert len(near) == 3 and min(np.diff(near)) >= length and near[-1] + length - near[0] <= 18
            assert sample.media[0].key == sample.media[1].key
            assert len({media.key for media in sample.media[2:]}) == len(sample.media) - 2 == 3
        else:
            times = sorted(media.start or 0 for media in sample.media)
            assert min(np.diff(times)) >= 1.5 and times[-1] - times[0] < 18


def test_parts_point_at_every_medium_once_in_order(tasks):
    for sample in tasks:
        parts = [part for part in sample.messages[0].parts if part.kind != "text"]
        assert [index for part in parts for index in part.media] == list(range(len(sample.media)))
        assert {media.kind for media in sample.media} == {part.kind for part in parts}


def test_no_answer_can_be_guessed_from_the_task(tasks):
    answers = {task: Counter(s.messages[1].text for s in tasks if s.task == task) for task in video_truth.TASKS}
    assert len(answers["frame_order"]) == 24
    assert 35 <= answers["which_first"]["A"] <= 65
    assert len(answers["video_match"]) == 3 and max(answers["video_match"].values()) <= 50
    assert max(answers["splice_time"].values()) <= 25 and max(answers["which_clip"].values()) <= 40


def test_both_languages_and_all_wordings_are_used(tasks):
    chinese = [sample for sample in tasks if re.search("[\u4e00-\u9fff]", sample.messages[0].text)]
    assert len(chinese) == len(tasks) // 2
    wordings = {
        (s.task, re.sub(r"[\d.]+|[A-D]: ", "", re.sub("the \\w+ film|\\w+片", "", s.messages[0].text))) for s in tasks
    }
    assert Counter(task for task, _ in wordings).keys() == video_truth.TASKS.keys()
    assert min(Counter(task for task, _ in wordings).values()) >= 6


def test_the_seed_alone_decides(tasks, films, store):
    again, _ = make(films, store)
    other, _ = make(films, store, seed=1)
    assert [sample.id for sample in again] == [sample.id for sample in tasks]
    assert not {sample.id for sample in other} & {sample.id for sample in tasks}
    assert len({sample.id for sample in tasks}) > 0.99 * len(tasks)


def test_damaged_videos_are_left_out_and_told(corpora, films, tmp_path, store):
    root = tmp_path / "videos"
    root.mkdir()
    for name in ("red.mp4", "green.mp4"):
        shutil.copy(films / name, root / name)
    street = (corpora / "video/vtest.avi").read_bytes()
    (root / "half.avi").write_bytes(street[: len(street) // 2])
    film = (corpora / "video/bbb_5min.mp4").read_bytes()
    (root / "cut.mp4").write_bytes(film[: len(film) // 2])
    (root / "empty.mp4").touch()
    ffmpeg.input("testsrc=duration=3:size=32x32:rate=5", f="lavfi").output(
        str(root / "short.mp4"), loglevel="error"
    ).run()
    good, bad = make(root, store, num={"frame_order": 20, "splice_time": 20})
    usable = {store.put_file(root / name) for name in ("red.mp4", "green.mp4")}
    assert {media.key for sample in good for media in sample.media} == usable
    reasons = {record.locator: record.reason for record in bad}
    assert reasons.keys() == {"half.avi", "cut.mp4", "empty.mp4", "short.mp4"}
    assert "header claims" in reasons["half.avi"] and reasons["empty.mp4"] == "empty file"
    assert "3.0 s long" in reasons["short.mp4"] or "2.8 s long" in reasons["short.mp4"]


def test_copies_of_a_film_are_no_wrong_candidates(corpora, tmp_path, store):
    """A re-encoded piece of the street would be a second right answer: it is never put beside the street."""
    for name, start in (("bbb_5min.mp4", 60), ("vtest.avi", 0)):
        cut = ffmpeg.input(str(corpora / "video" / name), ss=start, t=40)
        cut.output(str(tmp_path / name), c="copy", an=None, loglevel="error").run()
    piece = ffmpeg.input(str(tmp_path / "vtest.avi"), ss=8, t=22)
    piece.output(str(tmp_path / "piece.mp4"), vf="scale=320:-2", loglevel="error").run()
    good, bad = make(tmp_path, store, num={"video_match": 30})
    film, street, copy = (store.put_file(tmp_path / name) for name in ("bbb_5min.mp4", "vtest.avi", "piece.mp4"))
    shown = [{media.key for media in sample.media} for sample in good]
    assert len(good) == 30 and not bad and not any({street, copy} <= keys for keys in shown if film not in keys)
    asked = {sample.media[0].key: keys for sample, keys in zip(good, shown, strict=True)}
    assert asked[street] == {street, film} and asked[copy] == {copy, film}
    (tmp_path / "bbb_5min.mp4").unlink()
    alone, told = make(tmp_path, store, num={"video_match": 3})
    assert not alone and "same pictures" in told[0].reason


def test_one_film_gives_the_tasks_of_one_film(films, store):
    good, bad = make(films / "red.mp4", store, num={"frame_order": 3, "splice_time": 3, "which_first": 3})
    assert Counter(sample.task for sample in good) == {"frame_order": 3, "which_first": 3}
    assert [(record.locator, record.field) for record in bad] == [("splice_time#0-3", "video")]
    assert "needs 2 usable videos" in bad[0].reason


def test_the_real_films_are_cut(corpora, store):
    root = (corpora / "video/vtest.avi").parent
    names = {"bbb_5min.mp4": {"en": "the film", "zh": "动画片"}, "vtest.avi": {"en": "the street", "zh": "街道"}}
    good, bad = make(corpora / "video", store, names=names, clip_seconds=[6, 8])
    keys = {store.put_file(root / name): called for name, called in names.items()}
    assert bad == [] and len(good) == 500
    assert all(sample.messages[1].text == derive(sample, keys) for sample in good)


def test_options_are_checked(films):
    with pytest.raises(RecipeError, match="clip_seconds"):
        video_truth.units(films, {"clip_seconds": [8, 6]})
    with pytest.raises(RecipeError, match="num"):
        video_truth.units(films, {"num": {"guess": 3}})
