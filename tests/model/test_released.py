"""The preset `released` against keye-vl-utils 1.5.2, which runs in a process of its own; HSV against OpenCV."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from model.released import linspace, similarity, to_hsv
from model.slow_fast import label_frames
from model.video_plan import plan_file
from model.visual_tokens import SLOW_FAST, num_tokens, plan_video
from tests import films

RELEASED = SLOW_FAST["released"]
PACKAGE = ("keye-vl-utils-1.5.2", "keye-vl-utils==1.5.2", "decord==0.6.0")


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Real clips, pieces of the film in several containers and rates, and generated ones."""
    folder = tmp_path_factory.mktemp("videos")
    made = [
        folder / name for name in ("piece.mp4", "piece.ts", "vfr.mp4", "odd.mp4", "noise.mkv", "black.mp4", "slow.mp4")
    ]
    piece, ts, vfr, odd, noise, black, slow = made
    small = ["-vf", "scale=480:270", "-c:v", "libx264", "-preset", "ultrafast", "-an"]
    ffmpeg("-ss", "100", "-t", "20", "-i", films.film(), *small, piece)
    ffmpeg("-i", piece, "-c", "copy", ts)
    ffmpeg("-i", piece, "-vf", "select='lt(n,90)+not(mod(n,7))'", "-fps_mode", "vfr", *small[2:], vfr)
    ffmpeg("-t", "6", "-i", films.cyclists(), "-vf", "scale=175:143", "-c:v", "mpeg4", odd)
    ffmpeg("-f", "lavfi", "-i", "nullsrc=s=320x240:r=15:d=6,geq=random(1)*255:128:128", "-c:v", "ffv1", noise)
    ffmpeg("-f", "lavfi", "-i", "color=black:s=320x240:r=10:d=5", *small[2:], black)
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x240:r=1.5:d=8", *small[2:], slow)
    return [films.street(), films.cyclists(), films.caller(), *made]


@pytest.fixture(scope="module")
def theirs(videos: list[Path]) -> list[dict[str, Any]]:
    driver = Path(__file__).with_name("keye_vl_utils_oracle.py")
    done = subprocess.run(
        [sys.executable, driver, films.oracle(*PACKAGE), *videos], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_frames_times_sizes_and_labels_are_the_packages(videos: list[Path], theirs: list[dict[str, Any]]) -> None:
    same = total = 0
    for path, found in zip(videos, theirs, strict=True):
        planned = plan_file(path, RELEASED)
        assert planned.indices == found["indices"], path.name
        np.testing.assert_allclose(planned.times, found["times"], atol=1e-4)
        differing = [place for place, slow in enumerate(planned.is_slow) if slow != found["is_slow"][place]]
        assert all(abs(found["similarity"][place] - 0.9) <= 0.01 for place in differing), path.name
        if not differing:
            assert (planned.plan.slow, planned.plan.fast) == (tuple(found["slow"]), tuple(found["fast"])), path.name
            ours = [label.similarity for label in planned.labels]
            np.testing.assert_allclose(ours, found["similarity"], atol=0.02)
        same, total = same + len(planned.is_slow) - len(differing), total + len(planned.is_slow)
    assert same >= 0.99 * total


def test_hsv_is_opencvs() -> None:
    """Every red and green with every eighth blue, so that each pair of spread and value occurs."""
    colours = np.stack(np.meshgrid(np.arange(256), np.arange(256), np.arange(0, 256, 8)), axis=-1)
    colours = np.concatenate([colours, colours[..., ::-1]]).reshape(2048, -1, 3).astype(np.uint8)
    np.testing.assert_array_equal(to_hsv(colours), cv2.cvtColor(colours, cv2.COLOR_RGB2HSV))


@pytest.mark.parametrize(
    ("last", "count"), [(794, 159), (14401, 1200), (249, 20), (7200, 600), (9, 10), (5, 1), (863_999, 1365)]
)
def test_linspace_is_torchs(last: int, count: int) -> None:
    np.testing.assert_array_equal(np.round(linspace(last, count)), torch.linspace(0, last, count).round().numpy())


def test_it_is_blind_as_the_package_is() -> None:
    """Which is why it is not the default."""
    colours = [
        np.full((240, 320, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255), (60, 60, 60), (240,) * 3)
    ]
    noise = [np.random.default_rng(seed).integers(0, 256, (240, 320, 3), dtype=np.uint8) for seed in (0, 1)]
    assert similarity(*colours[:2], RELEASED) == similarity(*colours[2:], RELEASED) == similarity(*noise, RELEASED) == 1


def test_two_black_frames_have_no_similarity_and_the_second_is_fast() -> None:
    black = np.zeros((240, 320, 3), np.uint8)
    labels = label_frames([black, black], RELEASED)
    assert [label.is_slow for label in labels] == [True, False] and math.isnan(labels[1].similarity)


@pytest.mark.parametrize(
    ("slow", "fast", "height", "width", "sizes", "tokens"),
    [
        (10, 50, 1080, 1920, ((560, 1008), (308, 532)), 17_650),
        (100, 300, 1080, 1920, ((364, 672), (196, 336)), 56_400),
        (200, 800, 720, 1280, ((224, 420), (140, 252)), 60_000),
        (600, 200, 480, 854, ((196, 336), (140, 252)), 59_400),
        (1000, 365, 1080, 1920, ((140, 252), (140, 252)), 61_425),
    ],
)
def test_sizes_of_the_published_search(
    slow: int, fast: int, height: int, width: int, sizes: tuple[tuple[int, int], tuple[int, int]], tokens: int
) -> None:
    plan = plan_video([True] * slow + [False] * fast, height, width, RELEASED)
    assert (plan.slow, plan.fast, plan.tokens) == (*sizes, tokens)


def test_its_search_overshoots_the_budget() -> None:
    """Square frames lose nothing to the grid, so that the first number that does not fit is spent whole."""
    plan = plan_video([True] * 1000 + [False] * 300, 1372, 1372, RELEASED)
    assert num_tokens(plan.slow) == 49 and plan.tokens >= 49 * 1000
