"""`keyeforge eval`: judge a checkpoint, and write a run's report."""

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(help="Judge checkpoints on benchmarks, and write a run's report.", no_args_is_help=True)
console = Console()
DataOption = Annotated[Path, typer.Option("--data", help="The run's folder; relative paths start there.")]


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="What is judged on what, e.g. eval/recipes/demo.yaml.")],
    data: DataOption = Path("build/demo"),
) -> None:
    """Asks a checkpoint all questions of its tasks. Answers are cached by weights, prompt and pixels."""
    from data_engine.cli_output import progress_bar
    from eval.evaluate import Evaluation, evaluate
    from eval.tasks.instance import TaskError
    from strict_yaml import RecipeError, parse_yaml
    from train.stages import StageError

    try:
        with progress_bar(console) as bar:
            tasks: dict[str, Any] = {}

            def progress(name: str, done: int, total: int) -> None:
                if name not in tasks:
                    tasks[name] = bar.add_task(name, total=total)
                bar.update(tasks[name], completed=done)

            summaries = evaluate(parse_yaml(recipe, Evaluation), data, progress)
    except (RecipeError, StageError, TaskError) as error:
        _fail(error)
    for name, summary in summaries.items():
        table = Table(title=name, title_justify="left", show_header=False)
        for key, value in summary.items():
            if isinstance(value, int | float):
                table.add_row(key, f"{value:.4f}" if isinstance(value, float) else f"{value:,}")
        console.print(table)


@app.command()
def sweep(
    recipe: Annotated[Path, typer.Argument(help="What is merged into what, e.g. eval/recipes/fusion.yaml.")],
    data: DataOption = Path("build/demo"),
) -> None:
    """Merges experts into a base at several weights, judges every merge, and keeps the best in DATA/fusion/best."""
    from data_engine.cli_output import progress_bar
    from eval.fusion import Fusion, fuse
    from eval.tasks.instance import TaskError
    from model.fusion.sweep import SweepError, sweep_table
    from model.weights import WeightsError
    from strict_yaml import RecipeError, parse_yaml
    from train.stages import StageError

    try:
        with progress_bar(console) as bar:
            task = bar.add_task("merges", total=None)
            done = fuse(
                parse_yaml(recipe, Fusion), data, lambda done, total: bar.update(task, completed=done, total=total)
            )
    except (RecipeError, StageError, TaskError, SweepError, WeightsError) as error:
        _fail(error)
    console.print(sweep_table(done))


@app.command()
def report(data: DataOption = Path("build/demo")) -> None:
    """Writes DATA/report/index.html from what the run has left; parts not run yet say so."""
    from eval.report import write

    try:
        path = write(data.resolve())
    except FileNotFoundError as error:
        _fail(error)
    console.print(f"report: {path}", soft_wrap=True)


@app.command()
def minibench(
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist yet.")],
    seed: Annotated[int, typer.Option(help="Another seed, other items; 0 is the one that is judged on.")] = 0,
    per_kind: Annotated[int, typer.Option(help="Items of each of the six kinds.")] = 50,
) -> None:
    """Writes the bundled mini-benchmark as files: pictures, clips, items.jsonl, and a sheet to look at."""
    from eval.minibench.export import export
    from eval.minibench.items import items

    try:
        made = items(seed, per_kind)
        export(made, out)
    except ValueError as error:
        _fail(error)
    console.print(f"{len(made)} items: {out / 'items.jsonl'}\nto look at: {out / 'sheet.png'}", soft_wrap=True)


def _fail(error: Exception) -> NoReturn:
    """One line and exit code 2."""
    Console(stderr=True).print(str(error), style="red", soft_wrap=True, highlight=False)
    raise typer.Exit(2) from error
