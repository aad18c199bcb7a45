"""`keyeforge model`: how a video would be shown to the model, and how large the models are."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from model.decoding import probe, stream_frames, thumbnail_size
from model.film_strip import draw
from model.slow_fast import FrameLabel, label_frames
from model.visual_tokens import (
    PRESETS,
    VideoPlan,
    VisualBudget,
    load_preset,
    num_tokens,
    plan_video,
    video_text_tokens,
    visual_budget,
)

app = typer.Typer(help="The model: token plans and sizes.", no_args_is_help=True)


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
    fps = min(budget.fps, budget.max_frames / info.duration)
    kept: list[NDArray[np.uint8]] = []

    def passing() -> Iterator[NDArray[np.uint8]]:
        for frame in islice(stream_frames(path, fps, thumbnail_size(info)), budget.max_frames):
            if keep_frames:
                kept.append(frame)
            yield frame

    labels = label_frames(passing(), budget.similarity)
    plan = plan_video([label.is_slow for label in labels], info.height, info.width, budget)
    return Planned(kept, [index / fps for index in range(len(labels))], labels, plan)


def as_json(planned: Planned, budget: VisualBudget) -> dict[str, Any]:
    """The plan as plain data. `total_tokens` are the visual tokens that the budget bounds."""
    is_slow = [label.is_slow for label in planned.labels]
    frames = [
        {
            "index": index,
            "time": round(time, 3),
            "kind": "slow" if label.is_slow else "fast",
            "similarity": round(label.similarity, 4),
            "height": size[0],
            "width": size[1],
            "tokens": num_tokens(size, budget.factor),
        }
        for index, (time, label, size) in enumerate(zip(planned.times, planned.labels, planned.plan.sizes, strict=True))
    ]
    return {
        "frames": frames,
        "slow_frames": sum(is_slow),
        "fast_frames": len(is_slow) - sum(is_slow),
        "total_tokens": planned.plan.tokens,
        "text_tokens": video_text_tokens(planned.times, is_slow),
        "budget": budget.video_total_tokens,
    }


@app.command()
def plan(
    video: Annotated[Path, typer.Argument(help="A video file.")],
    *,
    preset: Annotated[str, typer.Option(help="Model preset whose budget is used.")] = "8b",
    fps: Annotated[float | None, typer.Option(help="Frames a second.", min=0.001)] = None,
    budget: Annotated[int | None, typer.Option(help="Visual tokens of the whole video.", min=1)] = None,
    as_data: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
    image: Annotated[Path | None, typer.Option(help="Write a film strip to this PNG.")] = None,
) -> None:
    """Shows which frames of a video are slow, which fast, and what each costs in tokens."""
    try:
        bounds = visual_budget(preset)
        bounds = replace(bounds, fps=fps or bounds.fps, video_total_tokens=budget or bounds.video_total_tokens)
        planned = plan_file(video, bounds, keep_frames=image is not None)
    except ValueError as error:
        raise bad_input(error) from error
    data = as_json(planned, bounds)
    if image is not None:
        draw(planned.frames, planned.labels, planned.plan, planned.times).save(image)
    if as_data:
        print(json.dumps(data))
    else:
        print_plan(video, data)


def print_plan(video: Path, data: dict[str, Any]) -> None:
    """A short table: one row per kind of frame, and the total against the budget."""
    table = Table(title=f"{video.name}: {data['total_tokens']} of {data['budget']} visual tokens")
    for column in ("frames", "count", "height", "width", "tokens each"):
        table.add_column(column, justify="right")
    for kind in ("slow", "fast"):
        frame = next((one for one in data["frames"] if one["kind"] == kind), None)
        if frame is not None:
            cells = (data[f"{kind}_frames"], frame["height"], frame["width"], frame["tokens"])
            table.add_row(kind, *map(str, cells))
    Console().print(table)
    print(f"and {data['text_tokens']} text tokens for marks and timestamps")


@app.command()
def info(preset: Annotated[str | None, typer.Argument(help="One preset; all without.")] = None) -> None:
    """Parameters of each preset, counted without allocating them, and its visual budget."""
    try:
        names = [preset] if preset else sorted(path.stem for path in PRESETS.glob("*.yaml"))
        rows = [(name, count_parameters(name), visual_budget(name), load_preset(name)) for name in names]
    except ValueError as error:
        raise bad_input(error) from error
    table = Table()
    for column in ("preset", "vision", "projector", "language", "total", "context", "tokens a video"):
        table.add_column(column, justify="right")
    for name, counts, bounds, data in rows:
        parts = [f"{counts[part] / 1e6:,.1f} M" for part in ("vision", "projector", "language", "total")]
        table.add_row(name, *parts, f"{data['context']:,}", f"{bounds.video_total_tokens:,}")
    Console().print(table)


def count_parameters(preset: str) -> dict[str, int]:
    """Parameters of a preset's parts, built on the meta device; tied word embeddings count once."""
    import torch

    from model.modeling import KeyeForConditionalGeneration, config_of

    with torch.device("meta"):
        model = KeyeForConditionalGeneration(config_of(preset))
    parts = {"vision": model.visual, "projector": model.mlp_AR}
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    total = sum(p.numel() for p in model.parameters())
    return {**counts, "language": total - sum(counts.values()), "total": total}


def bad_input(error: Exception) -> typer.Exit:
    """Prints one line to stderr; exit code 2."""
    typer.echo(str(error), err=True)
    return typer.Exit(2)
