"""The slow-fast film strip of a clip of the run: which frames are slow, which fast, what each costs, and why."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from data_engine import catalog
from data_engine.clips import Clip, build
from data_engine.media import decode_image
from data_engine.report import figures
from data_engine.report.corpora import steps
from data_engine.report.html import NotRunError, data_uri, render, step_record, svg
from data_engine.sample import Sample, from_row
from data_engine.shards import visual_parts
from model.film_strip import draw
from model.slow_fast import FrameLabel
from model.visual_tokens import VideoPlan, VisualBudget, num_tokens, plan_video, visual_budget

MISSING = "not run yet: the run has counted no video's tokens"

# Rather one clip than several, rather one that is cut from two spans. Clips that mix slow and fast frames evenly show
# most; of equals, the one with more frames.
_CHOOSE = """
WITH shown AS (
  SELECT *, flatten(list_transform(messages, lambda turn: turn.parts)) AS parts,
    list_filter(parts, lambda part: part.kind <> 'text') AS visual
  FROM samples
)
SELECT s.* EXCLUDE (parts, visual) FROM shown AS s JOIN tokens AS t ON t.id = s.id AND t.corpus = s.corpus
WHERE len(list_filter(visual, lambda part: part.kind = 'video')) > 0
ORDER BY len(visual), len(visual[1].media) DESC, abs(t.slow_frames - t.fast_frames),
  t.slow_frames + t.fast_frames DESC, s.id LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Strip:
    """A clip as the model of `preset` is shown it. `cuts` are the seconds at which a span ends and another begins."""

    sample: Sample
    clip: Clip
    plan: VideoPlan
    budget: VisualBudget
    preset: str
    cuts: list[float]

    @property
    def labels(self) -> list[FrameLabel]:
        return [FrameLabel(slow, alike) for slow, alike in zip(self.clip.is_slow, self.clip.similarity, strict=True)]

    def image(self) -> Image.Image:
        """The strip drawn, 1280 pixels wide."""
        return draw([decode_image(jpeg) for jpeg in self.clip.frames], self.labels, self.plan, self.clip.times)

    def curve(self) -> Figure:
        """Each frame's similarity to the latest slow frame, with the threshold."""
        return figures.similarities(self.clip.times, self.clip.similarity, self.clip.is_slow, self.budget.similarity)


def choose(data: Path) -> Sample:
    """A sample of the run that shows a video, cut from two spans if there is one. Raises NotRunError."""
    steps(data)
    with catalog.open_catalog(data) as connection:
        if not catalog.has(connection, "tokens"):
            raise NotRunError(MISSING)
        found = catalog.rows(connection, _CHOOSE)
    if not found:
        raise NotRunError(MISSING)
    return from_row(found[0])


def strip(data: Path, sample: Sample) -> Strip:
    """The plan of the first video part of a sample, as the run counted it. Raises ValueError if it shows no video."""
    folders = steps(data)
    config = step_record(folders[f"tokens.{sample.corpus}"])["config"]
    budget = visual_budget(config["preset"])
    videos = [part for part in visual_parts(sample) if part.kind == "video"]
    if not videos:
        raise ValueError(f"sample {sample.id}: shows no video; choose one of modality video")
    spans = [sample.media[index] for index in videos[0].media]
    clip = build(spans, folders[f"probe.{sample.corpus}"] / "frames", fps=config["fps"], budget=budget)
    plan = plan_video(clip.is_slow, clip.height, clip.width, budget)
    lengths = [item.end - item.start for item in spans if item.start is not None and item.end is not None]
    return Strip(sample, clip, plan, budget, config["preset"], np.cumsum(lengths)[:-1].tolist())


def section(data: Path) -> Markup:
    found = strip(data, choose(data))
    buffer = io.BytesIO()
    found.image().save(buffer, "JPEG", quality=86)
    slow = sum(found.clip.is_slow)
    return render(
        "strip.html.jinja",
        uri=data_uri(buffer.getvalue()),
        curve=svg(found.curve(), "Similarity of each frame to the latest slow frame"),
        strip=found,
        slow=slow,
        fast=len(found.clip.is_slow) - slow,
        slow_tokens=num_tokens(found.plan.slow),
        fast_tokens=num_tokens(found.plan.fast),
        frames=_frames(found),
    )


def _frames(found: Strip) -> list[dict[str, float | bool]]:
    columns = zip(found.clip.times, found.clip.is_slow, found.clip.similarity, found.plan.sizes, strict=True)
    return [
        {"time": time, "slow": slow, "similarity": alike, "tokens": num_tokens(size)}
        for time, slow, alike, size in columns
    ]
