"""Token counts against the published formula's values and an exhaustive search."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.visual_tokens import (
    PRESETS,
    VisualBudget,
    VisualTokenError,
    frame_sizes,
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


def brute_force(num_slow: int, num_fast: int, height: int, width: int, budget: VisualBudget) -> int:
    """The largest total that fits, over every number of tokens a slow frame may have."""
    totals = []
    for tokens in range(1, budget.frame_max_tokens + 1):
        slow, fast = frame_sizes(tokens, height, width, budget)
        totals.append(num_slow * num_tokens(slow) + num_fast * num_tokens(fast))
    return max((total for total in totals if total <= budget.video_total_tokens), default=0)


# Sides of one grid cell and more: below it the released formula may exceed its own maximum.
@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(1, 200), st.integers(0, 400), st.integers(28, 2200), st.integers(28, 2200), st.integers(1, 40_000))
def test_no_larger_pair_of_grids_fits(num_slow: int, num_fast: int, height: int, width: int, total: int) -> None:
    budget = VisualBudget(video_total_tokens=total, frame_min_tokens=48, frame_max_tokens=300)
    best = brute_force(num_slow, num_fast, height, width, budget)
    labels = [True] * num_slow + [False] * num_fast
    if not best:
        with pytest.raises(VisualTokenError, match="the budget is"):
            plan_video(labels, height, width, budget)
        return
    plan = plan_video(labels, height, width, budget)
    assert plan.tokens == best == sum(num_tokens(size) for size in plan.sizes) <= total


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


def test_a_small_video_is_not_enlarged_beyond_the_minimum() -> None:
    assert plan_video([True], 240, 320, PAPER).slow == (252, 308)
    assert num_tokens(plan_video([True], 84, 84, PAPER).slow) == 49


def test_frames_go_below_the_minimum_only_when_they_must() -> None:
    tight = VisualBudget(video_total_tokens=400, frame_min_tokens=48, max_frames=1000)
    assert plan_video([True] * 100, 480, 640, tight).tokens <= 400
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
