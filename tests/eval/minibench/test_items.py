"""Every truth is found again in the pixels, by code that knows nothing of how they were drawn."""

import hashlib
import io
import itertools
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from data_engine.clips import Clip
from eval.minibench.items import KINDS, VIDEO_KINDS, Item, chance, items
from eval.minibench.scene import COLORS, SHADE

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Seen:
    """A connected region of one colour: its shape, its colour, its centre (x, y)."""

    kind: str
    color: str
    x: float
    y: float


@pytest.fixture(scope="module")
def made() -> list[Item]:
    return items()


def of_kind(made: list[Item], kind: str) -> list[Item]:
    return [item for item in made if item.kind == kind]


def pixels(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)))


def classified(picture: Pixels, tolerance: int) -> npt.NDArray[np.int64]:
    """For each pixel the index of the one of the eight colours that it is, else -1."""
    palette = np.array(list(COLORS.values()))
    distance = np.abs(picture[:, :, None].astype(int) - palette).max(axis=3)
    return np.where(distance.min(axis=2) <= tolerance, distance.argmin(axis=2), -1)


def regions(picture: Pixels, tolerance: int = SHADE) -> list[Seen]:
    """Connected regions of each colour, but for smooth edges: a line halfway from black to white is gray."""
    colors, found = classified(picture, tolerance), []
    for index, color in enumerate(COLORS):
        mask = (colors == index).astype(np.uint8)
        inner = cv2.erode(mask, np.ones((3, 3)))
        num, labels, _, centres = cv2.connectedComponentsWithStats(mask)
        for label in range(1, num):
            if inner[labels == label].any():
                found.append(Seen(shape_of(labels == label), color, *centres[label]))
    return found


def shape_of(mask: npt.NDArray[np.bool_]) -> str:
    """The one of the tightest circle, box and triangle around it that the region fills best."""
    rows, columns = np.nonzero(mask)
    corners = [np.column_stack([columns + dx, rows + dy]) for dx in (0, 1) for dy in (0, 1)]
    hull = cv2.convexHull(np.concatenate(corners).astype(np.float32))
    width, height = cv2.minAreaRect(hull)[1]
    tightest = {
        "circle": np.pi * cv2.minEnclosingCircle(hull)[1] ** 2,
        "rectangle": width * height,
        "triangle": cv2.minEnclosingTriangle(hull)[0],
    }
    return min(tightest, key=lambda kind: tightest[kind])


def between(question: str, first: str, last: str = "") -> str:
    """The words of a question between two others."""
    rest = question.split(first, 1)[1]
    return (rest.split(last, 1)[0] if last else rest).strip(" ?.")


def only(values: list[str]) -> str:
    assert len(values) == 1, values
    return values[0]


def shapes_truth(question: str, seen: list[Seen]) -> str:
    if question.startswith("what color"):
        return only([one.color for one in seen if one.kind == between(question, "the ")])
    if question.startswith("what shape"):
        return only([one.kind for one in seen])
    if question.startswith("what is the"):
        return only([one.kind for one in seen if one.color == between(question, "the ", " shape")])
    named = between(question, "is there a ", " ")
    return "yes" if named in {name for one in seen for name in (one.kind, one.color)} else "no"


def counting_truth(question: str, seen: list[Seen]) -> str:
    named = between(question, "how many ", " are")
    if named == "shapes":
        return str(len(seen))
    wanted = named.removesuffix(" shapes").removesuffix("s")
    return str(sum(wanted in (one.kind, one.color) for one in seen))


def spatial_truth(question: str, seen: list[Seen]) -> str:
    if "between" in question:
        gaps = {one: max(np.hypot(one.x - a.x, one.y - a.y) for a in seen) for one in seen}
        return min(gaps, key=lambda one: gaps[one]).kind
    answers = ("left", "right") if "left" in question else ("above", "below")
    joint = f" {' or '.join(answers)} {'of ' if 'left' in question else ''}the "
    names = between(question, "is the ", joint), between(question, joint)
    first, second = (next(one for one in seen if f"{one.color} {one.kind}" == name) for name in names)
    along = (first.x - second.x, first.y - second.y)
    ahead, aside = along if "left" in question else along[::-1]
    assert abs(ahead) > 1.5 * abs(aside), "nobody could say whether it is beside or above"
    return answers[int(ahead > 0)]


@pytest.mark.parametrize(
    ("kind", "truth"), [("shapes", shapes_truth), ("counting", counting_truth), ("spatial", spatial_truth)]
)
def test_the_truth_is_in_the_pixels(made: list[Item], kind: str, truth: Any) -> None:
    chosen = of_kind(made, kind)
    assert len(chosen) == 50
    for item in chosen:
        assert isinstance(item.media, bytes)
        assert truth(item.question, regions(pixels(item.media))) == item.answer, item


def appearances(clip: Clip) -> dict[Seen, list[float]]:
    """For each place where a region of one colour is ever seen: the times of the frames that show it."""
    times: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    known: list[Seen] = []
    seen = {frame: regions(pixels(frame), tolerance=45) for frame in set(clip.frames)}  # JPEG blurs colours
    for time, frame in zip(clip.times, clip.frames, strict=True):
        for one in seen[frame]:
            place = next((k for k in known if k.color == one.color and np.hypot(k.x - one.x, k.y - one.y) < 4), None)
            if place is None:
                known.append(place := one)
            times[place].append(time)  # type: ignore[index]
    return dict(times)  # type: ignore[arg-type]


def order_truth(question: str, shown: dict[Seen, list[float]]) -> str:
    start = {one: times[0] for one, times in shown.items()}
    gaps = [b - a for a, b in itertools.pairwise(sorted(start.values()))]
    assert min(gaps) >= 1.0 and min(start.values()) >= 1.0
    if "first" in question:
        return min(start, key=lambda one: start[one]).kind
    if "last" in question:
        return max(start, key=lambda one: start[one]).kind
    first, second = between(question, "does the ", " shape"), between(question, "before the ", " shape")
    by_color = {one.color: time for one, time in start.items()}
    return "yes" if by_color[first] < by_color[second] else "no"


def when_truth(question: str, shown: dict[Seen, list[float]], clip: Clip) -> str:
    """Once there it stays: the frames that show it are exactly those from its second on."""
    color = between(question, "does the ", " ")
    times = next(times for one, times in shown.items() if one.color == color)
    assert times == [time for time in clip.times if time >= times[0]]
    if "half" in question:
        middle = (clip.times[-1] + clip.times[1]) / 2
        assert abs(times[0] - middle) >= 1
        return "first" if times[0] < middle else "second"
    return f"{times[0]:g}"


def test_the_truth_is_in_the_frames(made: list[Item]) -> None:
    for item in of_kind(made, "order") + of_kind(made, "when"):
        assert isinstance(item.media, Clip)
        shown, question = appearances(item.media), item.question
        found = order_truth(question, shown) if item.kind == "order" else when_truth(question, shown, item.media)
        assert found == item.answer, question


def test_words_are_there_and_alone(made: list[Item]) -> None:
    """What is drawn is large enough to be read and lies inside the picture; no two say the same."""
    for item in of_kind(made, "ocr"):
        assert isinstance(item.media, bytes) and isinstance(item.blank, bytes)
        drawn = np.abs(pixels(item.media).astype(int) - pixels(item.blank)).max(axis=2) > 40
        rows, columns = np.nonzero(drawn)
        assert rows.min() > 0 and rows.max() < drawn.shape[0] - 1
        assert columns.min() > 0 and columns.max() < drawn.shape[1] - 1
        assert np.ptp(columns) >= 0.3 * drawn.shape[1] and np.ptp(rows) >= 10
        assert item.choices == ()
    assert len({item.answer for item in of_kind(made, "ocr")}) == 50


def test_fifty_of_each_kind_and_no_two_alike(made: list[Item]) -> None:
    assert Counter(item.kind for item in made) == dict.fromkeys(KINDS, 50)
    assert len({item.id for item in made}) == 300
    assert all(item.answer in item.choices for item in made if item.kind != "ocr")
    assert all(item.answer == item.answer.casefold().strip() for item in made)


def test_answers_are_balanced_within_each_form(made: list[Item]) -> None:
    forms: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for item in made:
        forms[item.kind, item.form][item.answer] += 1
    for (kind, form), counts in forms.items():
        assert max(counts.values()) - min(counts.values()) <= 1, form
        choices = next(item.choices for item in made if item.form == form)
        assert kind == "ocr" or len(counts) == min(len(choices), counts.total())


def test_chance_is_the_best_constant_answer_to_each_form(made: list[Item]) -> None:
    found = chance(made)
    for kind in KINDS:
        mine = of_kind(made, kind)
        forms = {item.form for item in mine}
        best = 0
        for form in forms:
            same = [item for item in mine if item.form == form]
            best += max(sum(item.answer == guess for item in same) for guess in {item.answer for item in same})
        assert found[kind] == pytest.approx(best / len(mine))
    assert found["ocr"] == pytest.approx(1 / 50)
    assert max(found.values()) < 0.5


def test_blanks_have_nothing_on_them(made: list[Item]) -> None:
    for item in made:
        if isinstance(item.media, bytes):
            assert isinstance(item.blank, bytes)
            blank, shown = pixels(item.blank), pixels(item.media)
            assert blank.shape == shown.shape
            assert np.ptp(blank, axis=(0, 1)).max() == 0
            assert (blank[0, 0] == shown[0, 0]).all()  # the item's own background
        else:
            assert isinstance(item.blank, Clip)
            assert item.blank.times == item.media.times
            assert (item.blank.height, item.blank.width) == (item.media.height, item.media.width)
            assert len(set(item.blank.frames)) == 1 and np.ptp(pixels(item.blank.frames[0]), axis=(0, 1)).max() == 0
            assert item.blank.is_slow == [True] + [False] * (len(item.blank.frames) - 1)


def test_clips_are_sampled_at_two_frames_a_second(made: list[Item]) -> None:
    clips = [item.media for item in made if item.kind in VIDEO_KINDS]
    for clip in clips:
        assert isinstance(clip, Clip)
        assert clip.times == [index / 2 for index in range(len(clip.frames))]
        assert len(clip.is_slow) == len(clip.frames) and clip.is_slow[0]
    fast = [not slow for clip in clips if isinstance(clip, Clip) for slow in clip.is_slow]
    assert 0.5 < np.mean(fast) < 1.0  # most frames repeat what was there


def digest(made: list[Item]) -> str:
    """Over every byte of every item."""
    whole = hashlib.sha256()
    for item in made:
        whole.update(repr(item).encode())  # bytes, times and labels are all in it
    return whole.hexdigest()


def test_another_process_draws_the_same_bytes() -> None:
    """Also with another hash seed: no set or dict order plays a part."""
    code = "from tests.eval.minibench.test_items import digest, items; print(digest(items(3, 6)))"
    root = Path(__file__).parents[3]
    environment = {"PYTHONHASHSEED": "77", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest(items(3, 6))


def test_another_seed_draws_others() -> None:
    ids = [{item.id for item in items(seed, 4)} for seed in (0, 1)]
    assert len(ids[0]) == 24 and not ids[0] & ids[1]


@pytest.mark.parametrize("num", [0, -1, 1000])
def test_more_than_there_are_words_is_refused(num: int) -> None:
    with pytest.raises(ValueError, match=f"per_kind {num}: give 1 to"):
        items(0, num)
