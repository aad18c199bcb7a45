"""`keyeforge data`: curate a recipe, and ask a run why a sample is here or gone."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Optional

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

from data_engine import catalog
from data_engine.runners.partition import RunnerName
from strict_yaml import RecipeError

app = typer.Typer(help="Curate corpora, and ask what became of every sample.", no_args_is_help=True)
console = Console()
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of tables.")]
DataOption = Annotated[Path, typer.Option("--data", help="The folder of a curated run.")]


@app.command()
def curate(
    recipe: Annotated[Path, typer.Argument(help="A recipe, e.g. data_engine/recipes/demo.yaml.")],
    out: Annotated[Path, typer.Option(help="Where steps, media, shards and summary.json go.")],
    runner: Annotated[
        Optional[str],  # noqa: UP045 - typer reads the annotation
        typer.Option(help="Run every partition on one runner: local, spark or ray. Default: each its own."),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Read corpora from here, not the recipe's root.")] = None,
) -> None:
    """Runs a recipe: ingest, probe, measure, decide, dedup, count, gate, mix, shard.

    What was done before with the same settings, code and inputs is not done again. Exit code 1: a gate failed.
    """
    from data_engine.jobs.curate import run

    raise typer.Exit(run(recipe, out, runner=_runner(runner), root=root, console=console))


def _runner(name: str | None) -> RunnerName | None:
    if name not in {None, "local", "spark", "ray"}:
        fail(f"--runner {name}: choose local, spark or ray")
    return name  # type: ignore[return-value]


@app.command()
def why(
    sample_id: Annotated[str, typer.Argument(help="A sample's id, or a unique beginning.")],
    data: DataOption = Path("build/demo"),
) -> None:
    """Tells all that is known of one sample: what it says, what each operator saw, where it went."""
    about = _ask(lambda: catalog.why(data, sample_id))
    sample = about["sample"]
    console.print(f"[bold]{sample['id']}[/]  {sample['corpus']} / {sample['task']}  from {sample['origin']}")
    console.print(f"licence {sample['licence']}, {sample['attribution']}")
    for message in sample["messages"]:
        words = " ".join(p["text"] if p["kind"] == "text" else f"<{p['kind']} {p['media']}>" for p in message["parts"])
        console.print(f"[cyan]{message['role']}[/]: {words}", highlight=False)
    for number, item in enumerate(sample["media"] or []):
        console.print(f"media {number}: {item['kind']} {item['key'][:16]}… {_span(item)}", highlight=False)
    _table(
        "What each operator saw",
        about.get("lineage", []),
        ("operator", "verdict", "reason", "measures", "settings"),
    )
    _table("Verdict", about.get("verdicts", []), ("status", "operator", "reason"))
    _table("Tokens", about.get("tokens", []), ("preset", "text_tokens", "visual_tokens", "tokens"))
    _table("Places in the first epoch", about.get("plan", []), ("position", "modality", "tokens"))
    _table("Shard", about.get("index", []), ("shard", "key", "offset", "size"))
    _table("Labelled as", about["children"], ("id",))


def _span(item: dict[str, Any]) -> str:
    if item["start"] is None:
        return ""
    return f"at {item['start']:g} s" if item["end"] is None else f"{item['start']:g} to {item['end']:g} s"


@app.command()
def funnel(data: DataOption = Path("build/demo")) -> None:
    """Shows, per corpus, how many samples each step saw and dropped."""
    rows = _ask(lambda: catalog.funnel(data))
    for corpus in dict.fromkeys(row["corpus"] for row in rows):
        mine = [{**row, "left": row["seen"] - row["dropped"]} for row in rows if row["corpus"] == corpus]
        _table(corpus, mine, ("operator", "seen", "dropped", "left"))


@app.command()
def inspect(
    data: DataOption = Path("build/demo"),
    corpus: Annotated[Optional[str], typer.Option(help="Only this corpus.")] = None,  # noqa: UP045
    status: Annotated[Optional[str], typer.Option(help="kept, dropped or quarantined.")] = None,  # noqa: UP045
    limit: Annotated[int, typer.Option(help="How many.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Lists samples with their verdicts."""
    rows = _ask(lambda: catalog.inspect(data, corpus=corpus, status=status, limit=limit))
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row, ensure_ascii=False))
        return
    for row in rows:
        row["text"] = row["text"][:90]
    _table("Samples", rows, ("id", "corpus", "status", "reason", "text"))


@app.command()
def whatif(
    recipe: Annotated[Path, typer.Argument(help="The recipe as it is.")],
    settings: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="A threshold as it would be: operators.length.min_words=3, or of one corpus only: "
            "corpora.stamps.operators.length.min_words=3. Repeatable.",
        ),
    ],
    data: DataOption = Path("build/demo"),
    as_json: JsonOption = False,
) -> None:
    """Tells what would change if a threshold moved, from the stored measures; nothing is measured or written.

    Counts what the operators decide: a sample that they would keep anew may still be a duplicate.
    """
    from data_engine.recipe import load_recipe
    from data_engine.whatif import parse
    from data_engine.whatif import whatif as compare

    totals, changes = _ask(lambda: compare(load_recipe(recipe), data, [parse(text) for text in settings]))
    if as_json:
        found = {"corpora": totals, "changes": [dataclasses.asdict(change) for change in changes]}
        typer.echo(json.dumps(found, ensure_ascii=False, indent=1))
        return
    _table("Kept by the operators", totals, ("corpus", "samples", "kept_before", "kept_after"))
    rows = [{**dataclasses.asdict(change), "ids": " ".join(name[:10] for name in change.ids)} for change in changes]
    _table("What would change", rows, ("corpus", "change", "operator", "reason", "count", "ids"))
    if not changes:
        console.print("Nothing would change.")


def _table(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if row[column] is None else str(row[column]) for column in columns))
    console.print(table)


def _ask(question: Any) -> Any:
    try:
        return question()
    except (catalog.CatalogError, RecipeError) as error:
        fail(str(error))


def fail(message: str) -> None:
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
