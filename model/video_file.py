"""Video files as the processor takes them."""

from pathlib import Path

from model.processing import Video
from model.video_plan import plan_file, planned_frames
from model.visual_tokens import VisualBudget


def read_video(path: Path, budget: VisualBudget) -> Video:
    """A video file as the processor takes it. Decoded twice: what is kept is no larger than a slow frame shall be.

    Raises VideoError, VisualTokenError.
    """
    planned = plan_file(path, budget)
    frames = planned_frames(path, planned, planned.plan.slow)
    return Video(frames, planned.times, planned.is_slow, planned.info.height, planned.info.width)
