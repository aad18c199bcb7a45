"""`keyeforge model`: what a model is and costs, talking to it, and its checkpoints in and out."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from model.visual_tokens import PRESETS, VisualBudget, num_tokens, video_text_tokens, visual_budget

app = typer.Typer(help="The model: what it is and costs, chat, checkpoints, merging.", no_args_is_help=True)
OutOption = Annotated[Path, typer.Option("--out", help="The new folder.")]


@app.command()
def plan(
    video: Annotated[Path, typer.Argument(help="A video file.")],
    *,
    preset: Annotated[
        str,
        typer.Option(
            help="Whose rule and budget: `paper` (the report: 75,000 tokens), `released` (keye-vl-utils 1.5.2: "
            "65,536), or a model preset such as `tiny`: `paper` with that model's budget."
        ),
    ] = "paper",
    fps: Annotated[float | None, typer.Option(help="Frames sampled a second.", min=0.001)] = None,
    budget: Annotated[int | None, typer.Option(help="Visual tokens of the whole video.", min=1)] = None,
    as_data: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
    image: Annotated[Path | None, typer.Option(help="Write a film strip to this PNG.")] = None,
) -> None:
    """Shows which frames of a video are slow, which fast, and what each costs in tokens."""
    from model.video_plan import plan_file

    try:
        check_picture(image)
        bounds = visual_budget(preset)
        bounds = replace(bounds, fps=fps or bounds.fps, video_total_tokens=budget or bounds.video_total_tokens)
        planned = plan_file(video, bounds, keep_frames=image is not None)
    except ValueError as error:
        raise bad_input(error) from error
    data = plan_as_json(planned, bounds)
    if image is not None:
        from model.film_strip import draw

        draw(planned.frames, planned.labels, planned.plan, planned.times).save(image)
    if as_data:
        print(json.dumps(data))
    else:
        print_plan(video, data, bounds)


def check_picture(target: Path | None) -> None:
    """Raises ValueError for a file that no picture could be written to, before the work is done."""
    if target is not None and target.suffix.lower() != ".png":
        raise ValueError(f"--image {target}: name a .png")
    if target is not None and not target.parent.is_dir():
        raise ValueError(f"--image {target}: no folder {target.parent}")


def plan_as_json(planned: Any, budget: VisualBudget) -> dict[str, Any]:
    """The plan as plain data. `total_tokens` are the visual tokens that the budget bounds; `fps` the sampling rate."""
    columns = zip(planned.indices, planned.times, planned.labels, planned.plan.sizes, strict=True)
    frames = [
        {
            "index": index,
            "time": round(time, 3),
            "kind": "slow" if label.is_slow else "fast",
            "similarity": None if isnan(label.similarity) else round(label.similarity, 4),
            "height": size[0],
            "width": size[1],
            "tokens": num_tokens(size, budget.factor),
        }
        for index, time, label, size in columns
    ]
    return {
        "frames": frames,
        "slow_frames": sum(planned.is_slow),
        "fast_frames": len(frames) - sum(planned.is_slow),
        "total_tokens": planned.plan.tokens,
        "text_tokens": video_text_tokens(planned.times, planned.is_slow),
        "budget": budget.video_total_tokens,
        "fps": round(planned.fps, 6),
    }


def print_plan(video: Path, data: dict[str, Any], budget: VisualBudget) -> None:
    """A row for each frame, with its grid of tokens; and the totals against the budget."""
    table = Table(title=f"{video.name}: {data['total_tokens']} of {data['budget']} visual tokens")
    for column in ("index", "time", "kind", "grid", "tokens"):
        table.add_column(column, justify="right")
    for frame in data["frames"]:
        grid = f"{frame['height'] // budget.factor} x {frame['width'] // budget.factor}"
        table.add_row(str(frame["index"]), f"{frame['time']:.2f}", frame["kind"], grid, str(frame["tokens"]))
    Console().print(table)
    print(f"{data['slow_frames']} slow and {data['fast_frames']} fast frames, and {data['text_tokens']} text tokens")
    if data["fps"] < budget.fps - 1e-6:
        print(f"sampled at {data['fps']:.4g} frames a second, not {budget.fps:g}: the clip is too long for more")


@app.command()
def info(
    model: Annotated[str | None, typer.Argument(help="A preset or a model's folder; all presets without.")] = None,
) -> None:
    """The architecture, its parameters, and what an image, a minute of video and 1,000 text tokens cost."""
    from model import describe

    try:
        names = [model] if model else sorted(path.stem for path in PRESETS.glob("*.yaml"))
        found = [describe.describe(name) for name in names]
    except ValueError as error:
        raise bad_input(error) from error
    console = Console()
    if model:
        console.print(describe.architecture_table(found[0]))
    console.print(describe.parameter_table(found))
    console.print(describe.cost_table(found))
    console.print(describe.FOOTNOTE, style="dim")


@app.command()
def chat(
    question: Annotated[str | None, typer.Argument(help="Asked once; without it, a conversation begins.")] = None,
    *,
    model: Annotated[Path, typer.Option("--model", help="A model's folder.")],
    image: Annotated[list[Path] | None, typer.Option(help="An image to show; may be given often.")] = None,
    video: Annotated[list[Path] | None, typer.Option(help="A video to show; may be given often.")] = None,
    thinking: Annotated[str, typer.Option(help="auto, think or no_think.")] = "auto",
    max_new_tokens: Annotated[int, typer.Option(help="Longest reply.", min=1)] = 512,
    temperature: Annotated[float, typer.Option(help="0 is greedy.", min=0)] = 0.0,
) -> None:
    """Talks with a model in the terminal; replies appear as they are written.

    In a conversation: /image FILE and /video FILE show something, /new begins anew, /exit ends. A question that
    ends in /think or /no_think asks for that mode. Questions may also be piped in, one a line.
    """
    from model.chat import Chat, load, streamer_of
    from model.thinking import Mode

    try:
        if thinking not in get_args(Mode):
            raise ValueError(f"--thinking {thinking}: must be {', '.join(get_args(Mode))}")
        conversation = Chat(*load(model), thinking, max_new_tokens, temperature)  # type: ignore[arg-type]
        for path in image or ():
            conversation.show_image(path)
        for path in video or ():
            conversation.show_video(path)
        if question is not None:
            conversation.ask(question, streamer_of(conversation.processor))
            return
    except ValueError as error:
        raise bad_input(error) from error
    for line in typed_lines():
        if line in ("/exit", "/quit"):
            return
        try:
            obey(conversation, line)
        except ValueError as error:
            typer.echo(str(error), err=True)


def typed_lines() -> Iterator[str]:
    """Lines from the terminal after a prompt, or from a pipe, until their end; empty ones are passed over."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if line:
            yield line


def obey(conversation: Any, line: str) -> None:
    """One line of a conversation: a command or a question."""
    from model.chat import streamer_of

    command, _, rest = line.partition(" ")
    if command == "/new":
        conversation.forget()
    elif command == "/image":
        conversation.show_image(Path(rest.strip()))
    elif command == "/video":
        conversation.show_video(Path(rest.strip()))
    elif command.startswith("/"):
        raise ValueError(f"{command}: no such command; there are /image FILE, /video FILE, /new, /exit")
    else:
        conversation.ask(line, streamer_of(conversation.processor))


@app.command()
def serve(
    model: Annotated[Path, typer.Argument(help="A model's folder, or any that transformers loads.")],
    *,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.")] = 8000,
) -> None:
    """Serves a model at http://HOST:PORT/v1 in the form of OpenAI's chat completions; its name there is its folder."""
    from model.serve import serve as run

    try:
        run(model, host, port)
    except ValueError as error:
        raise bad_input(error) from error


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A folder in the published form.")],
    *,
    out: OutOption,
    preset: Annotated[str, typer.Option(help="Whose visual budget is used where the folder has none.")] = "8b",
) -> None:
    """Takes a published checkpoint over, strictly: every tensor, no other, each against its checksum if it has one."""
    from model.checkpoint import import_checkpoint

    _checkpoint(out, lambda on_progress: import_checkpoint(source, out, preset=preset, on_progress=on_progress))


@app.command()
def export(source: Annotated[Path, typer.Argument(help="A model's folder.")], *, out: OutOption) -> None:
    """Writes a model in the published form: its names, its config, sharded safetensors, checksums."""
    from model.checkpoint import export_checkpoint

    _checkpoint(out, lambda on_progress: export_checkpoint(source, out, on_progress=on_progress))


@app.command()
def start(
    *,
    siglip: Annotated[Path, typer.Option(help="A SigLIP folder: the vision tower.")],
    qwen: Annotated[Path, typer.Option(help="A Qwen3 folder: language model and tokenizer.")],
    out: OutOption,
    preset: Annotated[str, typer.Option(help="Whose visual budget is used.")] = "8b",
    seed: Annotated[int, typer.Option(help="The projector is drawn from it.")] = 0,
) -> None:
    """Builds a model before stage 1 from a SigLIP and a Qwen3 folder, with a fresh projector between them."""
    from model.checkpoint import start_checkpoint

    _checkpoint(
        out,
        lambda on_progress: start_checkpoint(siglip, qwen, out, preset=preset, seed=seed, on_progress=on_progress),
    )


@app.command()
def merge(
    recipe: Annotated[Path, typer.Argument(help="The YAML of a merge: docs/fusion.md shows one.")],
    *,
    out: OutOption,
) -> None:
    """Merges models into one: averaging, SLERP, task arithmetic, TIES, DARE, model stock.

    Ends with how far the models lay apart, module by module; out/divergence.json has all of it.
    """
    from model.fusion.divergence import divergence_table
    from model.fusion.merge import merge as run
    from model.fusion.recipe import load_recipe

    with progress_bar() as (on_progress, console):
        try:
            divergence = run(load_recipe(recipe), out, on_progress=on_progress)
        except ValueError as error:
            raise bad_input(error) from error
    console.print(divergence_table(divergence))
    console.print(f"merged: {out}", soft_wrap=True)


def _checkpoint(out: Path, write: Any) -> None:
    """Runs one of the three above under a progress bar, and says what it took."""
    with progress_bar() as (on_progress, console):
        try:
            coverage = write(on_progress)
        except ValueError as error:
            raise bad_input(error) from error
    for line in coverage.lines():
        console.print(line, soft_wrap=True)
    console.print(f"written: {out}", soft_wrap=True)


@contextmanager
def progress_bar() -> Iterator[tuple[Callable[[int, int], None], Console]]:
    """A bar over tensors, and the console to print on when it is gone."""
    console = Console()
    columns = (TextColumn("tensors"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("tensors", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total), console


def bad_input(error: Exception) -> typer.Exit:
    """Prints one line to stderr; exit code 2."""
    typer.echo(str(error), err=True)
    return typer.Exit(2)
