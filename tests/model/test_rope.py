"""Positions against the published walk-through and a token-by-token loop; angles against a closed form."""

import numpy as np
import pytest
import torch
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

from model.language import build_language_model
from model.modeling import config_of
from model.rope import position_ids

TEXT = 0


def by_hand(layout: list[int | tuple[int, int]]) -> np.ndarray:
    """Positions of a layout of text tokens (`TEXT`) and blocks (rows, columns of tokens), one at a time."""
    positions: list[tuple[int, int, int]] = []
    following = 0
    for item in layout:
        if isinstance(item, int):
            positions.append((following,) * 3)
        else:
            positions += [
                (following, following + row, following + column) for row in range(item[0]) for column in range(item[1])
            ]
        following = max(max(position) for position in positions) + 1
    return np.array(positions).T


def vectorised(layout: list[int | tuple[int, int]]) -> np.ndarray:
    is_visual = [mark for item in layout for mark in ([False] if item == TEXT else [True] * (item[0] * item[1]))]
    grids = [(1, 2 * item[0], 2 * item[1]) for item in layout if item != TEXT]
    return position_ids(np.array(is_visual), np.array(grids, dtype=np.int64).reshape(-1, 3))


def test_the_worked_example_of_a_slow_and_a_fast_frame() -> None:
    layout = [TEXT] * 5 + [(2, 2)] + [TEXT] * 5 + [(1, 1)] + [TEXT] * 2
    time, height, width = vectorised(layout)
    assert time.tolist() == [0, 1, 2, 3, 4, 5, 5, 5, 5, 7, 8, 9, 10, 11, 12, 13, 14]
    assert height[5:9].tolist() == [5, 5, 6, 6]
    assert width[5:9].tolist() == [5, 6, 5, 6]


def test_vectorised_positions_equal_the_loop() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        layout: list[int | tuple[int, int]] = []
        for _ in range(random.integers(0, 6)):
            layout += [TEXT] * int(random.integers(1, 6)) + [tuple(random.integers(1, 7, 2).tolist())]
        layout += [TEXT] * int(random.integers(0, 4)) or [TEXT]
        np.testing.assert_array_equal(vectorised(layout), by_hand(layout))


def test_a_mismatch_names_both_counts() -> None:
    with pytest.raises(ValueError, match=r"3 visual tokens .* 4 in the images"):
        position_ids(np.array([False, True, True, True]), np.array([[1, 4, 4]]))


def rotary() -> torch.nn.Module:
    with torch.device("meta"):
        model = build_language_model(config_of("8b").text_config)
    return model.rotary_emb


def test_equal_axes_give_qwen3_angles() -> None:
    positions = torch.randint(0, 100_000, (2, 9))
    ours = rotary()(torch.zeros(1), positions.expand(3, -1, -1))
    theirs = Qwen3RotaryEmbedding(config_of("8b").text_config)(torch.zeros(1), positions)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_sections_are_contiguous() -> None:
    """Closed form for 8b: pairs 0-15 turn by time, 16-39 by row, 40-63 by column, with base 8,000,000."""
    positions = torch.tensor([5, 700, 90])[:, None, None]
    cos, sin = rotary()(torch.zeros(1, dtype=torch.float64), positions)
    axis = [5] * 16 + [700] * 24 + [90] * 24
    angles = torch.tensor([place * 8e6 ** (-2 * pair / 128) for pair, place in enumerate(axis)]).repeat(2)
    torch.testing.assert_close(cos[0, 0].float(), angles.cos(), rtol=0, atol=1e-4)
    torch.testing.assert_close(sin[0, 0].float(), angles.sin(), rtol=0, atol=1e-4)


def test_sections_must_fill_the_head() -> None:
    config = config_of("tiny").text_config
    config.rope_parameters["mrope_section"] = [4, 4, 4]
    with pytest.raises(ValueError, match="mrope_section"):
        build_language_model(config)
