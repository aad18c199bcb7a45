"""`keyeforge data mix`: what another mixture would make of a run's samples."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow.compute as pc
import typer

from data_engine.catalog import CatalogError
from data_engine.catalog import steps as steps_of
from data_engine.cli_output import JsonOption, ask, console, fail, table
from data_engine.media import incoming, write_atomic

if TYPE_CHECKING:
    from data_engine.recipe import Recipe

app = typer.Typer()


@app.command()
def mix(
    recipe: Annotated[Path, typer.Argument(help="A recipe: its `mixture` is planned.")],
    out: Annotated[Path, typer.Option(help="The folder of a curated run.")],
    as_json: JsonOption = False,
) -> None:
    """Plans an epoch of a run's samples by a recipe's mixture, in seconds; nothing of the run changes.

    Writes to DIR/mix: plan.parquet (the order), mix.json and shares.svg, the shares of tokens along the epoch.
    `data curate` plans and writes shards by the same rule. Options of `mixture`: docs/mixture.md.

    keyeforge data mix data_engine/recipes/demo.yaml --out build/demo
    """
    from data_engine.recipe import load_recipe

    loaded = ask(lambda: load_recipe(recipe))
    try:
        report = ask(lambda: write_plan(loaded, out))
    except ValueError as error:
        fail(f"{recipe}: {error}")
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False, indent=1))
        return
    table("Shares of tokens", _modalities(report), ("modality", "target", "achieved", "off by", "tokens in the pool"))
    sources = [{**row, "share": f"{row['share']:.3%}", "passes": f"{row['passes']:.2f}"} for row in report["sources"]]
    table("Corpora", sources, ("modality", "corpus", "samples", "tokens", "share", "passes"))
    console.print(
        f"{report['samples']:,} samples, {report['tokens']:,} tokens; never further from the shares than "
        f"{report['worst_error']:,.0f} tokens (the largest sample has {report['largest_sample']:,})"
    )
    console.print(f"{out / 'mix' / 'shares.svg'}", highlight=False)


def write_plan(recipe: "Recipe", data: Path) -> dict[str, Any]:
    """Writes plan.parquet, mix.json and shares.svg to `data`/mix; returns the report.

    Raises CatalogError where the run was not mixed, ValueError for a mixture that its samples do not bear out.
    """
    from data_engine import mix, tables
    from data_engine.report.mix import shares_along

    steps = steps_of(data)
    if "mix" not in steps:
        raise CatalogError(f"{data}: its samples are not counted yet; run `keyeforge data curate` to the end")
    pool = tables.read(steps["mix"] / "pool", ["id", "corpus", "modality", "tokens", "split"])
    plan, report = mix.plan(pool.filter(pc.equal(pool["split"], "train")), recipe.mixture, Path(recipe.root))
    folder = data / "mix"
    tables.write(plan, folder / "plan.parquet")
    with incoming(folder / "shares.svg") as file:
        shares_along(plan, report).savefig(file, format="svg")
    write_atomic(folder / "mix.json", json.dumps(report, indent=1).encode())
    return report


def _modalities(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "modality": name,
            "target": f"{share:.2%}",
            "achieved": f"{report['achieved'][name]:.3%}",
            "off by": f"{100 * (report['achieved'][name] - share):+.4f} points",
            "tokens in the pool": f"{report['pool_tokens'][name]:,}",
        }
        for name, share in report["target"].items()
    ]
