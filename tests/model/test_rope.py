"""Positions against the published walk-through and a token-by-token loop; angles against a closed form."""

import numpy as np
import pytest
import torch
from transformers.models.qwen2_vl import modeling_qwen2_vl
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRotaryEmbedding
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding, apply_rotary_pos_emb

from model.language import build_language_model
from model.modeling import config_of
from model.rope import batch_position_ids, position_ids

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


SLOW, FAST = [TEXT] * 4, [TEXT] * 5  # a frame's mark and "0.5"; a fast frame has its own mark besides
LAYOUTS: dict[str, tuple[list[int | tuple[int, int]], int]] = {
    "text": ([TEXT] * 7, 0),
    "an image first": ([(2, 3), TEXT, TEXT], -3),
    "an image last": ([TEXT, TEXT, (3, 2)], -3),
    "an image of one token": ([TEXT, (1, 1), TEXT], 0),
    "a wide image": ([TEXT, (1, 40), TEXT], 0),
    "a tall image": ([TEXT, (40, 1), TEXT], 0),
    "two images side by side": ([TEXT, (2, 2), (2, 3), TEXT], -5),
    "two images and text between": ([TEXT, (2, 2), TEXT, (4, 4), TEXT], -14),
    "a slow and a fast frame": ([TEXT, *SLOW, (2, 2), *FAST, (1, 1), TEXT, TEXT], -2),
    "all frames slow": ([TEXT, *SLOW, (2, 3), *SLOW, (2, 3), TEXT], -6),
    "a video and an image": ([TEXT, *SLOW, (3, 3), *FAST, (1, 2), TEXT, TEXT, TEXT, (2, 2), TEXT], -8),
    "two videos, one without fast frames": (
        [TEXT, *SLOW, (2, 2), *FAST, (1, 1), TEXT, TEXT, *SLOW, (3, 4), TEXT],
        -10,
    ),
}
"""Golden layouts, each with its rope_delta: (largest position + 1) - tokens."""


@pytest.mark.parametrize("name", LAYOUTS)
def test_golden_layouts(name: str) -> None:
    """The brute force, and for the delta arithmetic: a block of h x w saves h * w - max(h, w) positions."""
    layout, delta = LAYOUTS[name]
    positions = vectorised(layout)
    np.testing.assert_array_equal(positions, by_hand(layout))
    assert positions.max() + 1 - positions.shape[1] == delta


def test_a_padded_batch_has_each_rows_own_positions() -> None:
    """All golden layouts in one batch, padded now left, now right; deltas count from the row's end."""
    layouts = [layout for layout, _ in LAYOUTS.values()]
    alone = [by_hand(layout) for layout in layouts]
    length = max(one.shape[1] for one in alone) + 3
    is_real, is_visual = np.zeros((2, len(layouts), length), dtype=bool)
    for row, (layout, positions) in enumerate(zip(layouts, alone, strict=True)):
        start = 0 if row % 2 else length - positions.shape[1]
        is_real[row, start : start + positions.shape[1]] = True
        visual = [mark for item in layout for mark in ([False] if item == TEXT else [True] * (item[0] * item[1]))]
        is_visual[row, start : start + positions.shape[1]] = visual
    grids = np.array([(1, 2 * item[0], 2 * item[1]) for layout in layouts for item in layout if item != TEXT])
    found, deltas = batch_position_ids(is_visual, is_real, grids)
    for row, positions in enumerate(alone):
        np.testing.assert_array_equal(found[:, row, is_real[row]], positions)
        assert deltas[row] == positions.max() + 1 - length
    assert not found[:, ~is_real].any()


def test_a_batch_names_the_row_whose_images_do_not_fit() -> None:
    is_visual = np.array([[True] * 4 + [False], [True] * 3 + [False] * 2])
    is_real = np.ones_like(is_visual)
    with pytest.raises(ValueError, match=r"row 1: 3 visual placeholders in input_ids, but 2 \+ 2 visual"):
        batch_position_ids(is_visual, is_real, np.array([[1, 4, 4], [1, 2, 4], [1, 2, 4]]))
    with pytest.raises(ValueError, match=r"7 visual placeholders in input_ids of all 2 rows, 8 visual"):
        batch_position_ids(is_visual, is_real, np.array([[1, 4, 4], [1, 2, 6], [1, 2, 2]]))


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


def test_queries_and_keys_turn_as_in_qwen2_vl() -> None:
    """Oracle: transformers' Qwen2-VL, its multimodal rotary embedding and its application to queries and keys."""
    ours = rotary()
    theirs = Qwen2VLRotaryEmbedding(ours.config)
    positions = torch.randint(0, 131_072, (3, 2, 9))
    q, k = torch.randn(2, 32, 9, 128), torch.randn(2, 8, 9, 128)
    expected = modeling_qwen2_vl.apply_rotary_pos_emb(q, k, *theirs(q, positions))
    for one, other in zip(apply_rotary_pos_emb(q, k, *ours(q, positions)), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


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
