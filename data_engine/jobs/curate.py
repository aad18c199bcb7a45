"""A curation run as a job: the same code for `keyeforge data curate` and

spark-submit data_engine/jobs/curate.py RECIPE --out DIR [--runner local|spark|ray] [--root DIR]
ray job submit -- python data_engine/jobs/curate.py RECIPE --out DIR --runner ray
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from data_engine.catalog import CatalogError
from data_engine.recipe import load_recipe
from data_engine.runners import spark
from data_engine.runners.partition import RunnerError, RunnerName
from data_engine.shard_target import TargetError
from data_engine.teachers.errors import BudgetError, TeacherError
from strict_yaml import RecipeError

if TYPE_CHECKING:
    from data_engine.curate import Outcome


def run(
    recipe: Path, out: Path, *, runner: RunnerName | None = None, root: Path | None = None, console: Console
) -> int:
    """Runs a recipe with progress bars and a closing table. Returns the exit code: 0, 1 (gate) or 2 (input)."""
    from data_engine.curate import curate

    return report(curate, recipe, out, runner=runner, root=root, console=console)


def report(
    work: Callable[..., "Outcome"],
    recipe: Path,
    out: Path,
    *,
    runner: RunnerName | None = None,
    root: Path | None = None,
    console: Console,
) -> int:
    """Runs `curate`, or a part of it, with progress bars and a closing table. Returns the exit code."""
    from data_engine.cli_output import steps_shown

    if out.exists() and not out.is_dir():
        return _refuse(f"--out {out}: is a file; give a folder, new or of an earlier run")
    try:
        loaded = load_recipe(recipe)
        if root is not None:
            loaded = loaded.model_copy(update={"root": str(root.resolve())})
        with steps_shown(console) as (progress, announce):
            outcome = work(loaded, out.resolve(), runner=runner, progress=progress, announce=announce)
    except (RecipeError, CatalogError, RunnerError, TeacherError, BudgetError, TargetError) as error:
        # What is wrong within the recipe names its field only: the file goes before it.
        named = f"{recipe}: " if str(error).startswith(("corpora.", "gates.", "shards.")) else ""
        return _refuse(f"{named}{error}")
    _show(outcome, console)
    return 1 if outcome.failed else 0


def _show(outcome: "Outcome", console: Console) -> None:
    columns = ("ingested", "kept", "dropped", "rerouted", "quarantined", "rewritten")
    table = Table("corpus", *columns)
    for name, counts in outcome.summary["corpora"].items():
        table.add_row(name, *(str(counts[column]) for column in columns))
    console.print(table)
    for line in outcome.failed:
        Console(stderr=True).print(line, style="red", soft_wrap=True, highlight=False)


def _refuse(message: str) -> int:
    """One clear line on the input that is wrong; its exit code."""
    Console(stderr=True).print(message, style="red", soft_wrap=True, highlight=False)
    return 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runner", choices=("local", "spark", "ray"))
    parser.add_argument("--root", type=Path)
    options = parser.parse_args()
    if spark.submitted():
        spark.end_with_submitter()
    sys.exit(run(options.recipe, options.out, runner=options.runner, root=options.root, console=Console()))


if __name__ == "__main__":
    main()
