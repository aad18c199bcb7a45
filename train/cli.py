"""`keyeforge train STAGE RECIPE [key=value ...]`: one stage of training.

The same file under a launcher, for many processes:

    torchrun --nproc-per-node 8 -m train.cli stage1 train/recipes/demo/stage1.yaml --data build/demo
    deepspeed --module train.cli stage1 train/recipes/demo/stage1.yaml --data build/demo
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from train.stages import Stage

HELP = """
Trains one stage of a recipe and leaves DIR/train/STAGE: metrics.jsonl, checkpoints, summary.json.

A killed stage continues exactly where its last checkpoint left it when the same command is given again.

  keyeforge train warmup train/recipes/demo/warmup.yaml\n
  keyeforge train stage1 train/recipes/demo/stage1.yaml --data build/demo\n
  keyeforge train sft train/recipes/demo/sft.yaml steps=200 optimizer.lr=5e-4\n
  torchrun --nproc-per-node 8 -m train.cli stage2 train/recipes/demo/stage2.yaml zero=2\n
  keyeforge train cost train/recipes/demo/stage2.yaml

The last one trains nothing: it times the stage's rows on this machine and fits what a sample costs (data.cost).

Keys are those of the recipe, dotted where nested (optimizer.lr=5e-4); values are YAML. Each recipe explains its keys.
"""

app = typer.Typer(
    help=HELP,
    subcommand_metavar="",
    context_settings={"allow_interspersed_args": True},
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True, help=HELP)
def train(
    stage: Annotated[
        str, typer.Argument(help="The stage, as its recipe names it: warmup, stage1, stage2, sft, ...; or cost")
    ],
    recipe: Annotated[Path, typer.Argument(help="The stage's YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[key=value]...", help="Keys to change.")] = None,
    data: Annotated[Path, typer.Option(help="The run's folder; relative paths in the recipe start there.")] = Path(
        "build/demo"
    ),
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an earlier run of this stage.")] = False,
    local_rank: Annotated[int, typer.Option("--local_rank", "--local-rank", hidden=True)] = 0,  # noqa: ARG001
) -> None:
    from data_engine.stream import StreamError
    from strict_yaml import RecipeError
    from train.feed.batches import FeedError
    from train.run import train as run
    from train.stages import StageError, load_stage

    try:
        loaded = load_stage(recipe, overrides or ())
        if stage == "cost":
            _cost(loaded, data)
            return
        if loaded.stage != stage:
            raise StageError(f"{recipe}: is a recipe for {loaded.stage!r}, not {stage!r}")
        run(loaded, data, fresh=fresh)
    except (RecipeError, StageError, StreamError, FeedError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _cost(stage: "Stage", data: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from train.feed.cost import TERMS
    from train.measure import measure
    from train.stages import StageError

    console = Console()
    try:
        fitted = measure(stage, data, console)
    except ValueError as error:
        raise StageError(str(error)) from error
    table = Table("part", "seconds a PFLOP of the forward pass", title=fitted.device, title_justify="left")
    for term, seconds in zip(TERMS, fitted.seconds_per_flop, strict=True):
        table.add_row(term, f"{1e15 * seconds:.4g}")
    table.add_row("a row, whatever it holds", f"{1e3 * fitted.per_row:.3g} ms")
    console.print(table)
    console.print(
        f"on rows kept from the fit: R2 {fitted.r2:.3f}, error {fitted.median_error:.1%} (95th percentile "
        f"{fitted.p95_error:.1%}); set data.cost=train/{stage.stage}.cost.json to balance by it"
    )


if __name__ == "__main__":
    app()
