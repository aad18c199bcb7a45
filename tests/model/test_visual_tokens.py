"""Token counts against the published formula's values and an exhaustive search."""

from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from model.visual_tokens import (
    PRESETS,
    VisualBudget,
    VisualTokenError,
    affordable,
    floor_fits,
    grids,
    image_size,
    image_text,
    load_preset,
    num_tokens,
    plan_video,
    smart_resize,
    video_text,
    visual_budget,
)

PAPER = visual_budget("8b")


@pytest.mark.parametrize(
    ("height", "width", "size", "tokens"),
    [
        (1080, 1920, (1092, 1932), 39 * 69),
        (4004, 3192, (4004, 3192), 16_302),
        (28, 28, (56, 56), 4),
        (28, 140, (28, 140), 5),
    ],
)
def test_image_sizes_of_the_report(height: int, width: int, size: tuple[int, int], tokens: int) -> None:
    assert image_size(height, width, PAPER) == size
    assert num_tokens(size) == tokens


@pytest.mark.parametrize(
    ("height", "width", "tokens", "size"),
    [
        (1080, 1920, 768, (560, 1008)),
        (1080, 1920, 216, (308, 532)),
        (1080, 1920, 347, (364, 672)),
        (1080, 1920, 93, (196, 336)),
        (1080, 1920, 397, (392, 728)),
        (1080, 1920, 109, (196, 364)),
        (720, 1280, 136, (224, 420)),
        (720, 1280, 48, (140, 252)),
        (480, 854, 94, (196, 336)),
    ],
)
def test_frame_sizes_of_the_released_code(height: int, width: int, tokens: int, size: tuple[int, int]) -> None:
    assert smart_resize(height, width, min_pixels=48 * 784, max_pixels=tokens * 784) == size


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 64), st.integers(0, 2000))
def test_smart_resize_stays_within_its_bounds(height: int, width: int, low: int, more: int) -> None:
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(VisualTokenError, match="aspect ratio"):
            smart_resize(height, width, min_pixels=low * 784, max_pixels=(low + more) * 784)
        return
    h, w = smart_resize(height, width, min_pixels=low * 784, max_pixels=(low + more) * 784)
    assert h % 28 == 0
    assert w % 28 == 0
    assert h * w >= low * 784 or more < low
    assert h * w <= (low + more) * 784 or min(h, w) == 28 or more < low


def shrunk(height: int, width: int) -> set[tuple[int, int]]:
    """Every grid that an undistorted picture can have: the sides cut down to cells, scale by scale of a fine ladder."""
    least = [max(1, side // 28) for side in (height, width)]
    scales = [28 * cells / side for side in (height, width) for cells in range(1, side // 28 + 1)]
    found = {tuple(max(1, int(scale * side / 28 + 1e-9)) for side in (height, width)) for scale in [*scales, 1.0]}
    return {(min(rows, least[0]), min(columns, least[1])) for rows, columns in found}


def brute_force(num_slow: int, num_fast: int, height: int, width: int, budget: VisualBudget) -> int:
    """The largest total that fits, over every grid of a slow frame with the largest fast one that it allows."""
    counts = sorted(rows * columns for rows, columns in shrunk(height, width))
    totals = [
        num_slow * slow + num_fast * max([fast for fast in counts if fast <= int(0.3 * slow)], default=counts[0])
        for slow in counts
        if slow <= max(budget.frame_max_tokens, counts[0])
    ]
    return max((total for total in totals if total <= budget.video_total_tokens), default=0)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.integers(1, 200), st.integers(0, 400), st.integers(1, 2200), st.integers(1, 2200), st.integers(1, 40_000))
def test_no_larger_pair_of_grids_fits(num_slow: int, num_fast: int, height: int, width: int, total: int) -> None:
    assume(max(height, width) <= 200 * min(height, width))
    budget = VisualBudget(video_total_tokens=total, frame_max_tokens=300)
    best = brute_force(num_slow, num_fast, height, width, budget)
    labels = [True] * num_slow + [False] * num_fast
    if not best:
        with pytest.raises(VisualTokenError, match="the budget is"):
            plan_video(labels, height, width, budget)
        return
    plan = plan_video(labels, height, width, budget)
    assert plan.tokens == best == sum(num_tokens(size) for size in plan.sizes) <= total


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 4000), st.integers(1, 4000))
def test_grids_rise_and_never_enlarge(height: int, width: int) -> None:
    assume(max(height, width) <= 200 * min(height, width))
    found = grids(height, width)
    assert set(found) == shrunk(height, width)
    assert all(a[0] <= b[0] and a[1] <= b[1] and a != b for a, b in pairwise(found))
    assert found[0] in {(1, 1), (1, width // height), (height // width, 1)} or min(found[0]) == 1
    rows, columns = found[-1]
    assert rows == max(1, height // 28) and columns == max(1, width // 28)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(0, 60), st.integers(40, 2200), st.integers(40, 2200), st.integers(1, 3000))
def test_it_is_at_least_what_the_released_formula_makes_of_any_number_of_tokens(
    num_slow: int, num_fast: int, height: int, width: int, total: int
) -> None:
    """Of a slow frame: every size of the formula that shrinks is among the grids."""
    assume(max(height, width) <= 100 * min(height, width))
    cells = set(grids(height, width))
    for tokens in range(1, (height // 28) * (width // 28), 7):
        size = smart_resize(height, width, min_pixels=784, max_pixels=tokens * 784)
        if num_tokens(size) <= tokens and size[0] <= height and size[1] <= width and min(size) > 28:
            assert (size[0] // 28, size[1] // 28) in cells


@pytest.mark.parametrize(
    ("num_slow", "num_fast", "height", "width"),
    [(10, 50, 1080, 1920), (100, 300, 1080, 1920), (200, 800, 720, 1280), (600, 200, 480, 854), (1, 0, 1080, 1920)],
)
def test_fast_frames_have_thirty_percent_of_a_slow_one(num_slow: int, num_fast: int, height: int, width: int) -> None:
    plan = plan_video([True] * num_slow + [False] * num_fast, height, width, PAPER)
    slow, fast = num_tokens(plan.slow), num_tokens(plan.fast)
    rows, columns = plan.fast[0] // 28, plan.fast[1] // 28
    assert fast <= 0.3 * slow < (rows + 1) * (columns + 1)
    assert plan.tokens <= 75_000


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(240, 320, (224, 308)), (84, 84, (84, 84)), (143, 175, (140, 168)), (10, 300, (28, 280)), (5, 9, (28, 28))],
)
def test_a_small_video_is_not_enlarged(height: int, width: int, size: tuple[int, int]) -> None:
    """But a side of less than one cell, to that cell."""
    assert plan_video([True], height, width, PAPER).slow == size


def test_frames_go_below_the_floor_only_when_they_must_and_it_is_told() -> None:
    tight = VisualBudget(video_total_tokens=400, frame_min_tokens=48, max_frames=1000)
    assert plan_video([True] * 100, 480, 640, tight).tokens <= 400
    assert not floor_fits([True] * 100, 480, 640, tight)
    assert floor_fits([True] * affordable([True] * 100, tight), 480, 640, tight)
    assert floor_fits([True] * 100, 60, 60, tight)
    with pytest.raises(VisualTokenError, match="sample fewer"):
        plan_video([True] * 401, 480, 640, tight)


@pytest.mark.parametrize(("labels", "reason"), [([], "first frame"), ([False, True], "first frame")])
def test_a_video_must_start_with_a_slow_frame(labels: list[bool], reason: str) -> None:
    with pytest.raises(VisualTokenError, match=reason):
        plan_video(labels, 480, 640, PAPER)


def test_texts_follow_the_published_layout() -> None:
    assert image_text(56, 84) == "<|vision_start|>" + "<|image_pad|>" * 6 + "<|vision_end|>"
    budget = VisualBudget(frame_min_tokens=4, frame_max_tokens=4)
    plan = plan_video([True, False], 56, 56, budget)
    assert video_text(plan, [0.0, 0.5], [True, False]) == (
        "<|vision_start|><|frame|>0.0<|video_pad|><|video_pad|><|video_pad|><|video_pad|>"
        "<|frame|>0.5<|fast_start|><|video_pad|><|fast_end|><|vision_end|>"
    )


def test_every_preset_has_a_budget_that_fits_its_context() -> None:
    names = [path.stem for path in PRESETS.glob("*.yaml")]
    assert {"tiny", "0.1b", "8b"} <= set(names)
    for name in names:
        budget, context = visual_budget(name), load_preset(name)["context"]
        assert max(budget.image_max_tokens, budget.video_total_tokens) < context
    with pytest.raises(ValueError, match=r"there are: .*tiny"):
        visual_budget("huge")
