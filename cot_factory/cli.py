"""`keyeforge cot`: the LongCoT factory, and the queue in which people review its chains."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cot_factory.review import cli as review
from data_engine.cli_output import JsonOption, console, fail, steps_shown, table

app = typer.Typer(help="Make chains of thought, graded, reviewed and scheduled.", no_args_is_help=True)


app.add_typer(review.app, name="review")


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe, e.g. cot_factory/recipes/demo.yaml.")],
    out: Annotated[Path, typer.Option(help="Where steps, media, the queue's tasks and the release go.")],
    runner: Annotated[str, typer.Option(help="local or ray: where partitions are worked on.")] = "local",
    root: Annotated[Path | None, typer.Option(help="Read questions from here, not the recipe's root.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Runs the five steps: collect and enhance, generate, assess, review, score.

    What was done before with the same settings, code and inputs is not done again, and an answer that a teacher gave is
    not asked for again. Decisions from the review queue (DIR/review/decisions.jsonl) are taken up by the next run.
    Every key of a recipe: docs/cot_factory.md. Exit code 2: wrong input.

    keyeforge cot run cot_factory/recipes/demo.yaml --out build/cot
    """
    if runner not in {"local", "ray"}:
        fail(f"--runner {runner}: choose local or ray")
    if out.exists() and not out.is_dir():
        fail(f"--out {out}: is a file; give a folder, new or of an earlier run")
    summary = _run(recipe, out.resolve(), runner, root)
    if as_json:
        console.print_json(data=summary)
    else:
        _show(summary)


def _run(recipe: Path, out: Path, runner: Any, root: Path | None) -> dict[str, Any]:
    from cot_factory.recipe import load
    from cot_factory.run import factor
    from data_engine.runners.partition import RunnerError
    from data_engine.teachers.errors import BudgetError, TeacherError
    from strict_yaml import RecipeError

    try:
        loaded = load(recipe)
        if root is not None:
            loaded = loaded.model_copy(update={"root": str(root.resolve())})
        with steps_shown(console) as (progress, announce):
            return factor(loaded, out, runner=runner, progress=progress, announce=announce)
    except (RecipeError, RunnerError, TeacherError, BudgetError) as error:
        fail(str(error))


def _show(summary: dict[str, Any]) -> None:
    steps, costs = summary["steps"], summary["costs"]
    tiers = {name: steps["assess"][name] for name in "ABC"}
    table("Tiers of the chains", [tiers], ("A", "B", "C"))
    people = ("tasks", "gold", "accepted", "fixed", "rejected", "waiting")
    table("For people", [{name: steps["review"][name] for name in people}], people)
    scores = tuple(f"score_{number}" for number in range(1, 6))
    table("Scores", [steps["score"]], scores)
    rows = [{"step": name, **found} for name, found in costs["steps"].items()]
    table("Costs", rows, ("step", "requests", "answered", "cached", "prompt_tokens", "completion_tokens", "cost"))
    gain = summary["calibration"].get("gain")
    if gain:
        console.print(
            f"One path a question: {gain['by_confidence']:.1%} right chosen by confidence, {gain['at_random']:.1%} at "
            f"random ({gain['difference']:+.1%}, 95 %: {gain['low']:+.1%} to {gain['high']:+.1%})",
            highlight=False,
        )
