"""What the commands of `keyeforge data` share: how they print, ask and fail."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from data_engine.catalog import CatalogError
from strict_yaml import RecipeError

if TYPE_CHECKING:
    from data_engine.step import StepResult

Answer = TypeVar("Answer")

console = Console()
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of tables.")]
DataOption = Annotated[Path, typer.Option("--data", help="The folder of a curated run.")]


def table(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    if not rows:
        return
    drawn = Table(title=title, title_justify="left")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*("" if row[column] is None else str(row[column]) for column in columns))
    console.print(drawn)


def ask(question: Callable[[], Answer]) -> Answer:
    try:
        return question()
    except (CatalogError, RecipeError) as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """One clear line, exit code 2: the input was wrong, not the data."""
    Console(stderr=True).print(message, style="red", soft_wrap=True, highlight=False)
    raise typer.Exit(2)


def progress_bar(console: Console) -> Progress:
    """The bar every long command draws."""
    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


@contextmanager
def steps_shown(console: Console) -> Iterator[tuple[Callable[[str, int, int], None], Callable[["StepResult"], None]]]:
    """What a run of steps tells its progress, and each finished step: bars while it works, then a line a step."""
    with progress_bar(console) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

        def announce(step: "StepResult") -> None:
            for task in tasks.values():
                bar.update(task, visible=False)
            state = "as before" if step.reused else f"{step.record['seconds']:.1f} s"
            told = ", ".join(f"{name.removeprefix('samples_')} {n}" for name, n in step.record["counts"].items())
            console.print(f"{step.name:<22} {state:>10}   {told}", highlight=False, soft_wrap=True)

        yield progress, announce
