"""`keyeforge data shard` and `lint`: writes the shards of a mixed run, and looks for what is wrong with shards."""

import dataclasses
import json
import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Optional

import typer

from data_engine.cli_output import JsonOption, console, fail, progress_bar, table
from data_engine.runners.partition import RunnerName

app = typer.Typer()


@app.command()
def shard(
    recipe: Annotated[Path, typer.Argument(help="The recipe of the run.")],
    out: Annotated[Path, typer.Option(help="The folder of a run whose samples are mixed.")],
    runner: Annotated[Optional[RunnerName], typer.Option(help="local, spark or ray. Default: ray.")] = None,  # noqa: UP045
    root: Annotated[Optional[Path], typer.Option(help="Read corpora from here, not the recipe's root.")] = None,  # noqa: UP045
) -> None:
    """Writes the shards of a run that is curated and mixed, as `data curate` does at its end.

    Goes on where it was stopped, and does nothing where all is done. With `shards.target` in the recipe the shards
    are sent there, too, what is missing there each time. Exit code 2: wrong input, or no mix yet.

    keyeforge data shard data_engine/recipes/demo.yaml --out build/demo
    """
    from data_engine.curate import shard as write
    from data_engine.jobs.curate import report

    raise typer.Exit(report(write, recipe, out, runner=runner, root=root, console=console))


@app.command()
def lint(
    manifest: Annotated[Path, typer.Argument(help="A manifest.json of shards, or its folder.")] = (
        Path("build/demo/shards")
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Sizes, indexes and manifest alone; no shard is read.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Looks for faults of shards: in the tars, their indexes, and the manifest. Exit code 1: there are some.

    Finds unordered keys, half samples, bad checksums, missing and foreign members, index drift, truncated archives,
    files that are missing or that no manifest lists. What each means: docs/shards.md.

    keyeforge data lint build/demo/shards
    """
    from data_engine import shard_lint

    try:
        with progress_bar(console) as bar:
            task = bar.add_task("lint", total=None)
            found = shard_lint.lint(
                manifest,
                quick=quick,
                processes=len(os.sched_getaffinity(0)),
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except shard_lint.LintError as error:
        fail(str(error))
    if as_json:
        rows = [{**dataclasses.asdict(one), "fix": one.fix} for one in found]
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=1))
    else:
        for one in found:
            console.print(str(one), soft_wrap=True, highlight=False, markup=False)
        counts = Counter(one.fault for one in found)
        table("Faults", [{"fault": name, "found": count} for name, count in counts.items()], ("fault", "found"))
        if not found:
            console.print(f"{manifest}: no faults")
    raise typer.Exit(1 if found else 0)
