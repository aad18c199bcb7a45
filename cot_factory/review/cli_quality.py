"""`keyeforge cot review export | import | report | audit`: tasks out, decisions in, agreement, and audits."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_engine.cli_output import DataOption, JsonOption, console, fail, table

if TYPE_CHECKING:
    from cot_factory.record import Decision, Task

app = typer.Typer()
FORMATS = ("label-studio", "csv", "jsonl")
DATA = Path("build/demo/cot")


@app.command("export")
def export(
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    form: Annotated[str, typer.Option("--format", help="label-studio, csv or jsonl.")] = "label-studio",
    data: DataOption = DATA,
    media: Annotated[str, typer.Option(help="Where browsers find media, as an address; their keys follow it.")] = "",
) -> None:
    """Writes the tasks of a run for another tool; for Label Studio also the labelling interface, OUT with .xml.

    keyeforge cot review export tasks.json --format label-studio --media http://host/media --data build/demo/cot
    """
    from cot_factory.review import interchange
    from data_engine.media import write_atomic

    tasks = [replace(task, gold=None) for task in tasks_of(data)]  # a control is not told from the others
    if form == "label-studio":
        shown = {one.key for task in tasks for one in task.media}
        image_of = {key: f"{media.rstrip('/')}/{key}" for key in shown} if media else {}
        exported = interchange.to_label_studio(tasks, image_of, _sizes(data, tasks))
        write_atomic(out, json.dumps(exported, indent=1, ensure_ascii=False).encode())
        write_atomic(out.with_suffix(".xml"), interchange.LABEL_CONFIG.encode())
    elif form in FORMATS:
        write = interchange.to_csv if form == "csv" else interchange.to_jsonl
        write_atomic(out, write(tasks).encode())
    else:
        fail(f"--format {form}: choose {', '.join(FORMATS)}")
    console.print(f"{len(tasks)} tasks: {out}", highlight=False, soft_wrap=True)


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(help="A JSON export of Label Studio, a filled CSV, or decisions as JSON lines.")
    ],
    data: DataOption = DATA,
) -> None:
    """Takes decisions from another tool into DIR/review/decisions.jsonl; of two by one person the later holds.

    Rows that are no decisions are listed and left out; the exit code is then 1.

    keyeforge cot review import export.json --data build/demo/cot
    """
    from cot_factory.review import interchange
    from data_engine.media import write_atomic

    known = {task.id for task in tasks_of(data)}
    found, faults = _read(file)
    strange = [one for one in found if one.task not in known]
    faults += [interchange.Fault(file.name, "task", f"{one.task!r} is no task of {data}") for one in strange]
    old = decisions_of(data)
    whole = interchange.merged(old, [one for one in found if one.task in known])
    write_atomic(data / "review" / "decisions.jsonl", interchange.to_jsonl(whole).encode())
    for fault in faults:
        console.print(f"{fault.where}: {fault.field}: {fault.reason}", style="red", highlight=False, soft_wrap=True)
    console.print(f"{len(found) - len(strange)} decisions read, {len(whole)} in all, {len(faults)} rows left out")
    raise typer.Exit(1 if faults else 0)


@app.command("report")
def report(data: DataOption = DATA, as_json: JsonOption = False) -> None:
    """Tells how far people agree, and how right they are on controls.

    keyeforge cot review report --data build/demo/cot
    """
    from cot_factory.review import agreement

    found = agreement.summary(decisions_of(data), tasks_of(data))
    if as_json:
        console.print_json(data=found)
        return
    low, high = found["alpha_interval"]
    rows = [{"decisions": found["decisions"], "decided by two or more": found["overlapping"]}]
    rows[0] |= {"same": _share(found["same"]), "Krippendorff's alpha": _number(found["alpha"])}
    rows[0] |= {"95 %": f"{_number(low)} to {_number(high)}", "seconds a task": _number(found["seconds_a_task"])}
    table("Agreement", rows, tuple(rows[0]))
    pairs = [{**pair, "kappa": _number(pair["kappa"])} for pair in found["kappa"]]
    table("Cohen's kappa of two people", pairs, ("one", "two", "tasks", "kappa"))
    gold = [{**one, "95 %": f"{_share(one['interval'][0])} to {_share(one['interval'][1])}"} for one in found["gold"]]
    table("Right on controls", gold, ("annotator", "seen", "right", "95 %"))


@app.command("audit")
def audit(
    data: DataOption = DATA,
    max_share: Annotated[float, typer.Option(help="The share of errors that the audit is to rule out.")] = 0.05,
    confidence: Annotated[float, typer.Option(help="How sure it is to be.")] = 0.95,
    allowed: Annotated[int, typer.Option(help="Errors that the sample may show.", min=0)] = 0,
    errors: Annotated[int | None, typer.Option(help="Errors that were found in the sample: tells the bound.")] = None,
    seed: Annotated[int, typer.Option(help="Which sample.")] = 0,
) -> None:
    """Draws the samples of the released set to look at; with --errors, tells what is then certain of the whole.

    keyeforge cot review audit --data build/demo/cot --max-share 0.02
    """
    from cot_factory.review import audit as audits
    from data_engine import tables

    folder = data / "release" / "chains"
    if not tables.parts(folder):
        fail(f"{folder}: nothing is released yet; run `keyeforge cot run RECIPE --out {data}` first")
    ids = [row["id"] for row in tables.rows(folder, ["id"])]
    try:
        number = audits.plan(len(ids), max_share, confidence, allowed)
        if errors is not None:
            most = audits.bound(len(ids), number, errors, confidence)
            told = f"{errors} errors in {number} of {len(ids)}: at most {most} ({most / len(ids):.2%}) in all"
            console.print(f"{told}, with {confidence:.0%} confidence", highlight=False)
            return
    except ValueError as error:
        fail(str(error))
    console.print(f"look at these {number} of {len(ids)}, then give --errors", highlight=False)
    for name in audits.draw(ids, number, seed):
        console.print(name, highlight=False)


def tasks_of(data: Path) -> "list[Task]":
    from cot_factory.review.cli import read_tasks

    path = data / "review" / "tasks.jsonl"
    if not path.is_file():
        fail(f"{path}: no tasks there; run `keyeforge cot run RECIPE --out {data}` first")
    return read_tasks(path)


def decisions_of(data: Path) -> "list[Decision]":
    from cot_factory.people import read_decisions
    from strict_yaml import RecipeError

    try:
        return read_decisions(data / "review" / "decisions.jsonl")
    except RecipeError as error:
        fail(str(error))


def _read(file: Path) -> tuple[list[Any], list[Any]]:
    """Decisions and faults of a file, by its ending and its beginning."""
    from cot_factory.review import interchange

    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file}: cannot be read: {error}")
    if file.suffix == ".csv":
        return interchange.from_csv(text, file.name)
    if not text.lstrip().startswith("["):
        return interchange.from_jsonl(text, file.name)
    try:
        return interchange.from_label_studio(json.loads(text))
    except ValueError as error:
        fail(f"{file}: not JSON: {error}")


def _sizes(data: Path, tasks: "list[Task]") -> dict[str, tuple[int, int]]:
    """Width and height of pictures with boxes."""
    from PIL import Image

    from data_engine.media import MediaStore, store_of

    store, sizes = MediaStore(store_of(data)), {}
    for key in {one.key for task in tasks for one in task.media if one.boxes and one.kind == "image"}:
        try:
            with Image.open(store.local(key)) as picture:
                sizes[key] = picture.size
        except (OSError, ValueError) as error:
            console.print(f"{key}: its boxes are left out: {error}", style="yellow", highlight=False)
    return sizes


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
