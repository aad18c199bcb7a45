"""Frame labels against planted changes."""

import numpy as np
import pytest

from model.slow_fast import label_frames, similarity

HEIGHT, WIDTH = 280, 420
NUM_PATCHES = 10 * 15


def flat(*colour: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), colour, dtype=np.uint8)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (flat(255, 0, 0), flat(0, 0, 255)),
        (flat(0, 0, 0), flat(255, 255, 255)),
        (flat(60, 60, 60), flat(120, 120, 120)),
        (noise(0), noise(1)),
    ],
)
def test_different_pictures_are_not_similar(a: np.ndarray, b: np.ndarray) -> None:
    assert similarity(a, b) == 0


@pytest.mark.parametrize("picture", [flat(0, 0, 0), flat(255, 0, 0), noise(0)])
def test_a_picture_is_similar_to_itself(picture: np.ndarray) -> None:
    assert similarity(picture, picture.copy()) == 1


def test_sensor_noise_is_no_change() -> None:
    calm = noise(0).clip(10, 245)
    shaken = (calm + np.random.default_rng(1).integers(-8, 9, calm.shape)).astype(np.uint8)
    assert similarity(calm, shaken) == 1


@pytest.mark.parametrize("changed", [1, 7, 40])
def test_changed_patches_count_by_their_share(changed: int) -> None:
    after = flat(30, 30, 30)
    for patch in range(changed):
        row, column = divmod(patch, 15)
        after[row * 28 : row * 28 + 28, column * 28 : column * 28 + 28] = 200
    assert similarity(flat(30, 30, 30), after) == pytest.approx(1 - changed / NUM_PATCHES)


def test_a_small_moving_thing_counts_at_its_size() -> None:
    """A square of two patches' area, at any offset, is two to six patches of change, never none."""
    for offset in range(28):
        after = flat(20, 20, 20)
        after[50 + offset : 50 + offset + 40, 60:100] = 220
        assert 1 - 6 / NUM_PATCHES <= similarity(flat(20, 20, 20), after) <= 1 - 2 / NUM_PATCHES


def test_odd_edges_count_by_area() -> None:
    before, after = (np.zeros((30, 28, 3), dtype=np.uint8) for _ in range(2))
    after[28:] = 255
    assert similarity(before, after) == pytest.approx(28 / 30)


def test_frames_are_compared_with_the_latest_slow_one() -> None:
    """A slow fade: each step alone is small, the sum is not."""
    labels = label_frames(flat(level, level, level) for level in (0, 20, 40, 60, 80))
    assert [label.is_slow for label in labels] == [True, False, True, False, True]
    assert [label.similarity for label in labels] == [0, 1, 0, 1, 0]


def test_the_threshold_itself_is_slow() -> None:
    after = flat(0, 0, 0)
    after[:28] = 255
    assert [label.is_slow for label in label_frames([flat(0, 0, 0), after], threshold=0.9)] == [True, True]
    assert [label.is_slow for label in label_frames([flat(0, 0, 0), after], threshold=0.89)] == [True, False]


def test_frames_must_have_one_size() -> None:
    with pytest.raises(ValueError, match="one size"):
        label_frames([flat(0, 0, 0), np.zeros((10, 10, 3), dtype=np.uint8)])
