"""A video file sampled, labelled slow or fast and planned in tokens, in one pass; without torch."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from model.decoding import Frame, Pixels, Size, VideoError, VideoInfo, check_whole, fitted, pick, probe, sample, scan
from model.released import frame_indices
from model.slow_fast import FrameLabel, compare_size, label_frames
from model.visual_tokens import VideoPlan, VisualBudget, VisualTokenError, affordable, floor_fits, plan_video

KEPT_SIDE = 256
"""Longer side in pixels of the frames that are kept for a film strip."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A video's sampled frames, their numbers in the source, their own times and labels, and the plan for them.

    `frames` are thumbnails, and only there if they were asked for. `fps` is the rate at which they were sampled: less
    than the budget's when the clip is too long for it.
    """

    info: VideoInfo
    frames: list[Pixels]
    indices: list[int]
    times: list[float]
    labels: list[FrameLabel]
    plan: VideoPlan
    fps: float

    @property
    def is_slow(self) -> list[bool]:
        return [label.is_slow for label in self.labels]


@dataclass(slots=True)
class _Pass:
    """What is remembered of the frames that went by."""

    keep: bool
    frames: list[Pixels]
    indices: list[int]
    times: list[float]


def plan_file(path: Path, budget: VisualBudget, *, keep_frames: bool = False) -> Planned:
    """Decodes, labels and plans a video file in one pass; only thumbnails are kept, and those only if asked.

    Frames come `fps` a second, or fewer over the whole duration when there would be more than `max_frames`, or more
    than fit with `frame_min_tokens` a slow frame: then the file is read again.
    Raises VideoError, also for a file that has lost its end, and VisualTokenError.
    """
    try:
        return _planned(path, budget, keep_frames)
    except VisualTokenError as error:
        raise VisualTokenError(f"{path}: {error}") from error


def _planned(path: Path, budget: VisualBudget, keep_frames: bool) -> Planned:
    info = probe(path)
    found = scan(path, info)
    check_whole(path, info, found.end)
    if budget.rule == "released":
        return _planned_released(path, info, found.packets, budget, keep_frames)
    fps = min(budget.fps, budget.max_frames / found.end)
    while True:
        labels, passed = _labelled(path, info, budget, fps, keep_frames)
        is_slow = [label.is_slow for label in labels]
        if floor_fits(is_slow, info.height, info.width, budget):
            break
        fps = _thinner(fps, is_slow, found.end, info, budget)
    check_whole(path, replace(info, duration=found.last), passed.times[-1] + 1 / fps)
    plan = plan_video(is_slow, info.height, info.width, budget)
    return Planned(info, passed.frames, passed.indices, passed.times, labels, plan, fps)


def _labelled(
    path: Path, info: VideoInfo, budget: VisualBudget, fps: float, keep: bool
) -> tuple[list[FrameLabel], _Pass]:
    passed = _Pass(keep, [], [], [])
    size = compare_size(info.height, info.width, budget)
    frames = islice(sample(path, info, fps, size, quick=True), budget.max_frames)
    return label_frames(_passing(frames, passed), budget), passed


def _passing(frames: Iterator[Frame], passed: _Pass) -> Iterator[Pixels]:
    for frame in frames:
        passed.indices.append(frame.index)
        passed.times.append(frame.time)
        if passed.keep:
            passed.frames.append(frame.pixels)
        yield frame.pixels


def _thinner(fps: float, is_slow: list[bool], end: float, info: VideoInfo, budget: VisualBudget) -> float:
    """The rate at which such frames would fit at the floor. Raises VisualTokenError when there is but one left."""
    if len(is_slow) < 2:
        raise VisualTokenError(
            f"a frame of {info.width} x {info.height} pixels needs at least {budget.frame_min_tokens} tokens, "
            f"the budget is {budget.video_total_tokens}"
        )
    return min(0.9 * fps, affordable(is_slow, budget) / end)


def _planned_released(path: Path, info: VideoInfo, packets: int, budget: VisualBudget, keep: bool) -> Planned:
    """The package's frames, read at full size, as its comparison copies are made from that."""
    if info.fps <= 0:
        raise VideoError(path, "no frame rate in the container, which the preset `released` needs")
    indices = frame_indices(packets, info.fps, budget)
    if not indices:
        raise VisualTokenError(f"{packets} frames at {info.fps:g} a second give none at {budget.fps:g} a second")
    passed = _Pass(False, [], [], [])
    thumbnails: list[Pixels] = []
    labels = label_frames(_passing(pick(path, info, indices), passed), budget)
    times = [index / info.fps for index in passed.indices]
    if keep:
        small = fitted(info.height, info.width, KEPT_SIDE)
        thumbnails = [frame.pixels for frame in pick(path, info, indices, small)]
    plan = plan_video([label.is_slow for label in labels], info.height, info.width, budget)
    return Planned(info, thumbnails, passed.indices, times, labels, plan, min(budget.fps, info.fps))


def planned_frames(path: Path, planned: Planned, size: Size) -> list[Pixels]:
    """The planned frames once more, at `size`."""
    return [frame.pixels for frame in pick(path, planned.info, planned.indices, size)]
