"""Frame labels against planted changes."""

import io
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from model.slow_fast import compare_size, cut, label_frames, similarity
from model.visual_tokens import SLOW_FAST
from tests import films

PAPER = SLOW_FAST["paper"]
HEIGHT, WIDTH = 144, 256
NUM_PATCHES = 18 * 32


def flat(*colour: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), colour, dtype=np.uint8)


def noise(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def street() -> np.ndarray:
    """A frame of a street, 576 x 768."""
    return still(films.street(), 5)


def still(path: Path, second: float) -> np.ndarray:
    command = ["ffmpeg", "-v", "error", "-ss", str(second), "-i", str(path), "-frames:v", "1"]
    png = subprocess.run([*command, "-f", "image2pipe", "-c:v", "png", "pipe:"], capture_output=True, check=True)
    return np.asarray(Image.open(io.BytesIO(png.stdout)).convert("RGB"))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (flat(255, 0, 0), flat(0, 0, 255)),
        (flat(0, 0, 0), flat(255, 255, 255)),
        (flat(60, 60, 60), flat(120, 120, 120)),
    ],
)
def test_different_colours_are_not_similar(a: np.ndarray, b: np.ndarray) -> None:
    assert similarity(a, b) == 0


@pytest.mark.parametrize("size", [(144, 256), (240, 320), (720, 1280)])
def test_two_pictures_of_noise_are_not_similar(size: tuple[int, int]) -> None:
    """Also when shrinking has averaged most of the noise away: mean colours agree, textures do not."""
    assert similarity(noise(0, *size), noise(1, *size)) < 0.3


@pytest.mark.parametrize("picture", [flat(0, 0, 0), flat(255, 0, 0), noise(0)])
def test_a_picture_is_similar_to_itself(picture: np.ndarray) -> None:
    assert similarity(picture, picture.copy()) == 1


def test_noise_sway_and_light_of_a_camera_are_no_change(street: np.ndarray) -> None:
    random = np.random.default_rng(1)
    grainy = (street + random.normal(0, 6, street.shape)).clip(0, 255).astype(np.uint8)
    assert similarity(street, grainy) > 0.99
    assert similarity(street[:-2, :-2], street[2:, 2:]) > 0.97
    assert similarity(street, (street * 0.92).astype(np.uint8)) > 0.99


def test_other_things_of_the_same_colour_are_seen(street: np.ndarray) -> None:
    """Turned by half, the picture has the same colours; blurred, the same things."""
    assert similarity(street, street[::-1, ::-1]) < 0.5
    blurred = np.asarray(Image.fromarray(street).filter(ImageFilter.GaussianBlur(2)))
    assert similarity(street, blurred) > 0.95


def test_camera_motion_is_seen_in_proportion(street: np.ndarray) -> None:
    shares = [similarity(street[:, : -step or None], street[:, step:]) for step in (0, 4, 16, 64)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1 and shares[-1] < 0.6


@pytest.mark.parametrize("changed", [1, 7, 200])
def test_changed_patches_count_by_their_share(changed: int) -> None:
    after = flat(30, 30, 30)
    for patch in range(changed):
        row, column = divmod(patch, 32)
        after[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = 200
    assert similarity(flat(30, 30, 30), after) == pytest.approx(1 - changed / NUM_PATCHES)


def test_a_small_moving_thing_counts_at_its_size() -> None:
    """A square of nine patches' area, at any offset, is nine to sixteen patches of change, never none."""
    for offset in range(8):
        after = flat(20, 20, 20)
        after[50 + offset : 74 + offset, 60 + offset : 84 + offset] = 220
        assert 1 - 16 / NUM_PATCHES <= similarity(flat(20, 20, 20), after) <= 1 - 9 / NUM_PATCHES


@pytest.mark.parametrize(
    ("size", "copy"),
    [
        ((720, 1280), (144, 256)),
        ((1280, 720), (256, 144)),
        ((143, 175), (144, 176)),
        ((3, 500), (8, 256)),
        ((1, 1), (8, 8)),
        ((405, 720), (144, 256)),
    ],
)
def test_the_copy_that_is_compared_has_whole_patches(size: tuple[int, int], copy: tuple[int, int]) -> None:
    assert compare_size(*size) == copy
    assert cut(np.zeros((*size, 3), np.uint8), PAPER).variance.shape == (copy[0] // 8, copy[1] // 8)


def test_variance_and_level_are_numpys(street: np.ndarray) -> None:
    patches = cut(street, PAPER)
    cell = patches.pixels[8:16, 16:24].astype(np.float64)
    assert patches.level[1, 2] == pytest.approx(cell.mean((0, 1)), rel=1e-5)
    assert patches.variance[1, 2] == pytest.approx(cell.var((0, 1)).mean(), rel=1e-3)


def test_frames_are_compared_with_the_latest_slow_one() -> None:
    """A slow fade: each step alone is small, the sum is not."""
    labels = label_frames(flat(level, level, level) for level in (0, 20, 40, 60, 80))
    assert [label.is_slow for label in labels] == [True, False, True, False, True]
    assert [label.similarity for label in labels] == [0, 1, 0, 1, 0]


def test_a_flash_is_two_changes() -> None:
    labels = label_frames([flat(60, 60, 60), flat(255, 255, 255), flat(60, 60, 60), flat(60, 60, 60)])
    assert [label.is_slow for label in labels] == [True, True, True, False]


def test_the_threshold_itself_is_slow() -> None:
    after = flat(0, 0, 0)
    after[:72] = 255
    frames = [flat(0, 0, 0), after]
    assert [label.is_slow for label in label_frames(frames, replace(PAPER, similarity=0.5))] == [True, True]
    assert [label.is_slow for label in label_frames(frames, replace(PAPER, similarity=0.49))] == [True, False]


def test_frames_must_have_one_size() -> None:
    with pytest.raises(ValueError, match="one size"):
        label_frames([flat(0, 0, 0), np.zeros((10, 10, 3), dtype=np.uint8)])
