"""`keyeforge data`: curate a recipe, and ask a run why a sample is here or gone."""

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from data_engine import catalog, cli_mix, cli_shards, cli_stream
from data_engine.cli_output import DataOption, JsonOption, ask, console, fail, table
from data_engine.runners.partition import RunnerName

if TYPE_CHECKING:
    from data_engine.removal import Removal

app = typer.Typer(help="Curate corpora, and ask what became of every sample.", no_args_is_help=True)
app.add_typer(cli_mix.app)
app.add_typer(cli_shards.app)
app.add_typer(cli_stream.app)


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
    """Runs a recipe: ingest, rewrite, probe, measure, decide, dedup, count, gate, mix, shard.

    What was done before with the same settings, code and inputs is not done again. Exit code 1: a gate failed;
    2: wrong input. Every operator, pass and gate a recipe may name: docs/curation.md, docs/lifecycle.md.

    keyeforge data curate data_engine/recipes/demo.yaml --out build/demo
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
    """Tells all that is known of one sample: what it says, what each operator saw, where it went.

    keyeforge data why 8947f95d --data build/demo
    """
    about = ask(lambda: catalog.why(data, sample_id))
    sample = about["sample"]
    console.print(f"[bold]{sample['id']}[/]  {sample['corpus']} / {sample['task']}  from {sample['origin']}")
    console.print(f"licence {sample['licence']}, {sample['attribution']}")
    for message in sample["messages"]:
        words = " ".join(p["text"] if p["kind"] == "text" else f"<{p['kind']} {p['media']}>" for p in message["parts"])
        console.print(f"[cyan]{message['role']}[/]: {words}", highlight=False)
    if sample["parents"]:
        console.print(f"made of {', '.join(sample['parents'])}", highlight=False)
    for number, item in enumerate(sample["media"] or []):
        console.print(f"media {number}: {item['kind']} {item['key'][:16]}… {_span(item)}", highlight=False)
    table(
        "What each operator saw",
        about.get("lineage", []),
        ("operator", "verdict", "reason", "measures", "settings"),
    )
    table("Verdict", about.get("verdicts", []), ("status", "operator", "reason", "route"))
    table("Tokens", about.get("tokens", []), ("preset", "text_tokens", "visual_tokens", "tokens"))
    table("Places in the first epoch", about.get("plan", []), ("position", "modality", "tokens"))
    table("Shard", about.get("index", []), ("shard", "key", "offset", "size"))
    table("Made into", about["children"], ("id",))


def _span(item: dict[str, Any]) -> str:
    if item["start"] is None:
        return ""
    return f"at {item['start']:g} s" if item["end"] is None else f"{item['start']:g} to {item['end']:g} s"


@app.command()
def funnel(
    data: DataOption = Path("build/demo"),
    by_source: Annotated[bool, typer.Option(help="One funnel for each source of a corpus.")] = False,
) -> None:
    """Shows, per corpus or source, how many samples each step saw, dropped (rerouted ones among them) and rewrote.

    `read` are records that could not be understood, `dedup.NAME` the passes that look at all rows.
    """
    rows = ask(lambda: catalog.funnel(data, by_source=by_source))
    for corpus, source in dict.fromkeys((row["corpus"], row["source"]) for row in rows):
        chosen = [row for row in rows if (row["corpus"], row["source"]) == (corpus, source)]
        mine = [{**row, "left": row["seen"] - row["dropped"]} for row in chosen]
        columns = ("operator", "seen", "dropped", "rerouted", "rewritten", "left")
        table(f"{corpus}: {source}" if by_source else corpus, mine, columns)


@app.command()
def inspect(
    data: DataOption = Path("build/demo"),
    corpus: Annotated[Optional[str], typer.Option(help="Only this corpus.")] = None,  # noqa: UP045
    status: Annotated[Optional[str], typer.Option(help="kept, dropped, rerouted or quarantined.")] = None,  # noqa: UP045
    limit: Annotated[int, typer.Option(help="How many.", min=1)] = 20,
    as_json: JsonOption = False,
) -> None:
    """Lists samples with their verdicts: where to find an id for `why`.

    keyeforge data inspect --corpus stamps --status dropped --limit 5
    """
    if status not in {None, "kept", "dropped", "rerouted", "quarantined"}:
        fail(f"--status {status}: choose kept, dropped, rerouted or quarantined")
    rows = ask(lambda: catalog.inspect(data, corpus=corpus, status=status, limit=limit))
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row, ensure_ascii=False))
        return
    for row in rows:
        row["text"] = row["text"][:90]
    table("Samples", rows, ("id", "corpus", "status", "reason", "text"))


NOT_PASSES = (
    "Operators only, from stored measures. Passes over all rows (duplicates, benchmarks, balance) are not run again: "
    "a sample that comes back may still be dropped there. `keyeforge data curate` tells."
)


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

    Counts per corpus and reason what the operators decide, with a few ids. Passes are not run again: a sample that
    they would keep anew may still be a duplicate.

    keyeforge data whatif data_engine/recipes/demo.yaml --set operators.length.max_words=60
    """
    from data_engine.recipe import load_recipe
    from data_engine.whatif import parse
    from data_engine.whatif import whatif as compare

    totals, changes = ask(lambda: compare(load_recipe(recipe), data, [parse(text) for text in settings]))
    if as_json:
        found = {"corpora": totals, "changes": [dataclasses.asdict(change) for change in changes], "note": NOT_PASSES}
        typer.echo(json.dumps(found, ensure_ascii=False, indent=1))
        return
    table("Kept by the operators", totals, ("corpus", "samples", "kept_before", "kept_after"))
    rows = [{**dataclasses.asdict(change), "ids": " ".join(name[:10] for name in change.ids)} for change in changes]
    table("What would change", rows, ("corpus", "change", "operator", "reason", "count", "ids"))
    if not changes:
        console.print("Nothing would change.")
    console.print(NOT_PASSES, style="dim")


@app.command()
def diff(
    earlier: Annotated[Path, typer.Argument(help="The folder of a run.")],
    later: Annotated[Path, typer.Argument(help="The folder of another, often of a newer recipe or source.")],
    as_json: JsonOption = False,
) -> None:
    """Tells what the later run keeps that the earlier did not, and the other way round, by source and reason.

    `changed` is what comes from the same place with other content.

    keyeforge data diff build/march build/april
    """
    from data_engine import releases

    rows = ask(lambda: releases.diff(earlier, later))
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    shown = [{**row, "ids": " ".join(name[:10] for name in row["ids"])} for row in rows]
    table(f"From {earlier} to {later}", shown, ("corpus", "source", "change", "reason", "count", "ids"))
    if not rows:
        console.print("Both keep the same samples.")


@app.command()
def remove(
    data: Annotated[list[Path], typer.Option(help="The folder of a run. Repeatable: each loses the samples.")],
    sample_id: Annotated[str, typer.Option("--id", help="One sample: its id, or a unique beginning.")] = "",
    url: Annotated[str, typer.Option(help="Whatever came from this address.")] = "",
    licence: Annotated[str, typer.Option(help="Whatever is under such a licence, e.g. 'CC-BY-NC-*'.")] = "",
    person: Annotated[str, typer.Option(help="Whatever names this person: text, attribution, read pictures.")] = "",
    origin: Annotated[str, typer.Option(help="Whatever came from such a place, e.g. 'animals/birds/*'.")] = "",
    reason: Annotated[str, typer.Option(help="Why: kept with the tombstones.")] = "removed on request",
    dry_run: Annotated[bool, typer.Option(help="Only tell what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Takes samples out of a run for good: tables, indexes, shards, and media that no other sample shows.

    Lists the releases and checkpoints that held them. A tombstone (hashes only) in DIR/tombstones.jsonl keeps
    them out of every later run. A removal that was interrupted is ended by the next call.

    keyeforge data remove --data build/demo --origin 'animals/birds/*' --reason "the artist asked" --dry-run
    """
    from data_engine import removal
    from data_engine.selector import Selector

    ways = {"id": sample_id, "url": url, "licence": licence, "person": person, "origin": origin}
    given = [Selector(by, text) for by, text in ways.items() if text]  # type: ignore[arg-type]
    if len(given) != 1:
        fail("remove: give exactly one of --id, --url, --licence, --person, --origin")
    found = ask(lambda: [removal.remove(folder, given[0], reason, dry_run=dry_run) for folder in data])
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(one) for one in found], ensure_ascii=False, indent=1, default=str))
        return
    for one in found:
        _show_removal(one, dry_run=dry_run)


def _show_removal(found: "Removal", *, dry_run: bool) -> None:
    if found.ended:
        console.print(f"{found.data}: ended a removal that had been cut short")
    would = "would be removed" if dry_run else "removed"
    console.print(f"{found.data}: {len(found.ids)} samples and {len(found.media)} media {would}")
    table("Rows", [{"table": name, "rows": count} for name, count in found.rows.items()], ("table", "rows"))
    table("Shards", [{"shard": name} for name in found.shards], ("shard",))
    held = found.held_by
    table("Releases that kept them", [{"run": k, "samples": v} for k, v in held.releases.items()], ("run", "samples"))
    seen = [{"checkpoint": name, "samples": count} for name, count in held.checkpoints.items()]
    table("Checkpoints that may have seen them", seen, ("checkpoint", "samples"))
    if (found.data / "report").exists() and not dry_run:
        console.print(f"{found.data / 'report'} may still show them: `keyeforge eval report --data {found.data}`")


@app.command()
def gc(
    data: DataOption = Path("build/demo"),
    keep: Annotated[Optional[list[Path]], typer.Option(help="A run file to keep, too: a copy of run.json.")] = None,  # noqa: UP045
    in_progress: Annotated[bool, typer.Option(help="Clear steps in progress even if younger than a day.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only tell what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Clears the outputs of steps that no release needs, and media that no sample shows any longer.

    A release is a run.json: that of the folder, copies of it beside it, and those given by --keep. What runs beside
    this one compare with (`against`) stays.

    keyeforge data gc --data build/demo --dry-run
    """
    from data_engine import releases

    freed = ask(lambda: releases.gc(data, keep or (), in_progress=in_progress, dry_run=dry_run, now=time.time()))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(one) for one in freed], indent=1))
        return
    steps = [dataclasses.asdict(one) for one in freed if one.kind != "media"]
    table("Steps", steps, ("kind", "name", "bytes"))
    num_media = len(freed) - len(steps)
    word = "would be freed" if dry_run else "freed"
    console.print(f"{len(steps)} steps and {num_media} media: {sum(one.bytes for one in freed):,} bytes {word}")
