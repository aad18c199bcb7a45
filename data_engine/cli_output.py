"""What the commands of `keyeforge data` share: how they print, ask and fail."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from data_engine.catalog import CatalogError
from strict_yaml import RecipeError

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
