"""What a stage leaves behind: metrics.jsonl while it runs, summary.json and a table when it ends."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from data_engine.media import write_atomic

Row = dict[str, Any]


class Metrics:
    """One JSON object a step. Opening drops the rows of steps that a resumed run will repeat."""

    def __init__(self, path: Path, steps_done: int, *, enabled: bool = True) -> None:
        self.file: IO[str] | None = None
        if enabled:
            write_rows(path, read_rows(path)[:steps_done])
            self.file = path.open("a", encoding="utf-8")

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *exc: object) -> None:
        if self.file:
            self.file.close()

    def write(self, row: Row) -> None:
        if self.file:
            self.file.write(json.dumps(row) + "\n")
            self.file.flush()


def read_rows(path: Path) -> list[Row]:
    """The rows of metrics.jsonl or the like, without a last line that a killed run left unfinished."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Puts `rows` in the place of what the file holds."""
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def summarise(rows: Sequence[Row], cells: int) -> dict[str, Any]:
    """The figures of a whole stage. `cells` is the number of token cells of one batch.

    `loss_first` and `loss_last` are means over 5 % of the steps, at least one.
    """
    few = max(1, round(0.05 * len(rows)))
    losses = [row["loss"] for row in rows]
    tokens = sum(row["tokens"] for row in rows)
    too_long = [one for row in rows for one in row.get("too_long", ())]
    return {
        "steps": len(rows),
        "loss_first": sum(losses[:few]) / few,
        "loss_last": sum(losses[-few:]) / few,
        "tokens": tokens,
        "samples": sum(row["samples"] for row in rows),
        "targets": sum(row["targets"] for row in rows),
        "seconds": round(sum(row["seconds"] for row in rows), 2),
        "packing_efficiency": tokens / (cells * len(rows)),
        "too_long": len(too_long),
        "too_long_ids": sorted(set(too_long)),
    }


def progress_bar(console: Console) -> Progress:
    """Loss, speed and time left of a running stage."""
    return Progress(
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TextColumn("{task.fields[speed]:,.0f} tokens/s"),
        TimeRemainingColumn(),
        console=console,
    )


def table(name: str, summary: dict[str, Any]) -> Table:
    """A stage's summary as a short table."""
    result = Table("", name, show_header=True)
    for key in ("steps", "tokens", "seconds", "loss_first", "loss_last", "heldout_loss"):
        result.add_row(key, _shown(summary[key]))
    for key in ("heldout_loss_shuffled_images", "packing_efficiency", "too_long", "frozen_unchanged"):
        result.add_row(key, _shown(summary[key]))
    if found := summary.get("ledger"):
        once = (
            "each once" if found["exactly_once"] else "NOT each once: {missing} missing, {twice} twice, {wrong} wrong"
        )
        result.add_row("samples on the ledger", f"{found['places']:,}, {once.format(**found)}")
    return result


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.4f}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
