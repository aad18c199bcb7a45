"""`keyeforge data stream`: reads shards in mixed order, and holds a ledger against it."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from data_engine.cli_output import JsonOption, console, fail, table

if TYPE_CHECKING:
    from data_engine.stream.follow import Followed
    from data_engine.stream.ledger import Audit

app = typer.Typer()


@app.command()
def stream(
    manifest: Annotated[str, typer.Argument(help="A manifest.json of shards: its path or address.")] = (
        "build/demo/shards/manifest.json"
    ),
    samples: Annotated[int, typer.Option(help="How many to read.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the order.")] = 0,
    epoch: Annotated[int, typer.Option(help="Which to begin with.", min=0)] = 0,
    rank: Annotated[int, typer.Option(help="Whose part to read.", min=0)] = 0,
    world_size: Annotated[int, typer.Option(help="Of how many.", min=1)] = 1,
    split: Annotated[str, typer.Option(help="train or heldout.")] = "train",
    state: Annotated[Optional[str], typer.Option(help="JSON to go on from: what this prints last.")] = None,  # noqa: UP045
    max_failures: Annotated[int, typer.Option(help="Unreadable samples in a row to leave out.", min=0)] = 0,
    record: Annotated[Optional[Path], typer.Option(help="Keep a ledger in this folder.")] = None,  # noqa: UP045
    audit: Annotated[Optional[Path], typer.Option(help="Hold the ledger in this folder to the order.")] = None,  # noqa: UP045
    as_json: JsonOption = False,
) -> None:
    """Reads samples as a trainer would, and tells their shares of tokens, the speed, and the state to go on from.

    With --audit it reads nothing and proves that every place on record came exactly once: exit code 1 if one did not.

    keyeforge data stream build/demo/shards/manifest.json --samples 500 --rank 1 --world-size 4
    """
    from data_engine.stream import Stream, StreamError
    from data_engine.stream import follow as following

    try:
        begun = Stream(
            *(manifest, seed, epoch, rank, world_size),
            state=None if state is None else _parsed(state),
            split=split,
            max_failures=max_failures,
            record=record,
        )
        if audit is not None:
            show_audits(following.audit(begun, audit), as_json=as_json)
            return
        found = following.follow(begun, samples)
    except (StreamError, ValueError) as error:
        fail(str(error))
    show(found, begun.state_dict(), {failure.id: failure.reason for failure in begun.failures}, as_json=as_json)


def _parsed(state: str) -> dict[str, int]:
    try:
        found: dict[str, int] = json.loads(state)
    except ValueError:
        fail(f"--state {state}: not the JSON that an earlier call printed")
    return found


def show(found: "Followed", state: dict[str, int], failures: dict[str, str], *, as_json: bool) -> None:
    total = max(found.tokens.total(), 1)
    rows = [
        {
            "modality": modality,
            "corpus": corpus,
            "samples": found.samples[modality, corpus],
            "tokens": tokens,
            "share": f"{tokens / total:.2%}",
        }
        for (modality, corpus), tokens in sorted(found.tokens.items())
    ]
    speed = found.samples.total() / max(found.seconds, 1e-9)
    if as_json:
        told: dict[str, Any] = {"sources": rows, "samples_per_second": speed, "failures": failures, "state": state}
        typer.echo(json.dumps(told, ensure_ascii=False, indent=1))
        return
    table("Read", rows, ("modality", "corpus", "samples", "tokens", "share"))
    table("Left out", [{"sample": name, "reason": why} for name, why in failures.items()], ("sample", "reason"))
    console.print(f"{found.samples.total():,} samples, {total:,} tokens, {speed:,.0f} samples a second")
    console.print(f"--state '{json.dumps(state)}'", soft_wrap=True, highlight=False)


def show_audits(audits: "list[Audit]", *, as_json: bool) -> None:
    """Exit code 1 where a place came twice, never, or with another sample."""
    rows = [{**dataclasses.asdict(found), "exactly_once": found.exactly_once} for found in audits]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        table("Places on record", rows, ("epoch", "places", "missing", "twice", "wrong", "failed", "exactly_once"))
    if not all(found.exactly_once for found in audits):
        raise typer.Exit(1)
