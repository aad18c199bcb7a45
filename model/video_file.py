"""Video files for the model: sampled, labelled slow or fast, planned in tokens, and read at the planned size."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.decoding import VideoInfo, probe, stream_frames, thumbnail_size
from model.processing import Video
from model.slow_fast import FrameLabel, label_frames
from model.visual_tokens import VideoPlan, VisualBudget, plan_video


@dataclass(frozen=True, slots=True)
class Planned:
    """A video's sampled frames (thumbnails), their times and labels, and the plan for them."""

    frames: list[NDArray[np.uint8]]
    times: list[float]
    labels: list[FrameLabel]
    plan: VideoPlan


def plan_file(path: Path, budget: VisualBudget, *, keep_frames: bool = False) -> Planned:
    """Decodes, labels and plans a video file in one pass; only thumbnails are kept, and those only if asked.

    Frames come `fps` a second, or fewer over the whole duration when there would be more than `max_frames`.
    Raises VideoError, VisualTokenError.
    """
    info = probe(path)
    kept: list[NDArray[np.uint8]] = []

    def passing() -> Iterator[NDArray[np.uint8]]:
        for frame in _frames(path, info, budget, thumbnail_size(info)):
            if keep_frames:
                kept.append(frame)
            yield frame

    labels = label_frames(passing(), budget.similarity)
    plan = plan_video([label.is_slow for label in labels], info.height, info.width, budget)
    fps = _fps(info, budget)
    return Planned(kept, [index / fps for index in range(len(labels))], labels, plan)


def read_video(path: Path, budget: VisualBudget) -> Video:
    """A video file as the processor takes it. Decoded twice: what is kept is no larger than a slow frame shall be.

    Raises VideoError, VisualTokenError.
    """
    planned, info = plan_file(path, budget), probe(path)
    frames = list(_frames(path, info, budget, planned.plan.slow))
    is_slow = [label.is_slow for label in planned.labels]
    return Video(frames, planned.times, is_slow, info.height, info.width)


def _fps(info: VideoInfo, budget: VisualBudget) -> float:
    return min(budget.fps, budget.max_frames / info.duration)


def _frames(path: Path, info: VideoInfo, budget: VisualBudget, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    return islice(stream_frames(path, _fps(info, budget), size), budget.max_frames)
