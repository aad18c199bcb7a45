"""`keyeforge data stream`: reads shards in mixed order, and holds a ledger against it."""

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from data_engine.cli import JsonOption, app, fail


@app.command()
def stream(
    manifest: Annotated[Path, typer.Argument(help="A manifest.json of shards, or an address of one.")] = Path(
        "build/demo/shards/manifest.json"
    ),
    samples: Annotated[int, typer.Option(help="How many to read.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the order.")] = 0,
    epoch: Annotated[int, typer.Option(help="Which to begin with.", min=0)] = 0,
    rank: Annotated[int, typer.Option(help="Whose part to read.", min=0)] = 0,
    world_size: Annotated[int, typer.Option(help="Of how many.", min=1)] = 1,
    split: Annotated[str, typer.Option(help="train or heldout.")] = "train",
    state: Annotated[Optional[str], typer.Option(help="JSON to go on from: what this prints last.")] = None,  # noqa: UP045
    record: Annotated[Optional[Path], typer.Option(help="Keep a ledger in this folder.")] = None,  # noqa: UP045
    audit: Annotated[
        Optional[Path], typer.Option(help="Read nothing: hold the ledger in this folder to the order.")
    ] = None,  # noqa: UP045
    as_json: JsonOption = False,
) -> None:
    """Reads samples as a trainer would, and tells their shares of tokens, the speed and the state to go on from.

    With --audit it proves that every sample on record came exactly once: exit code 1 where one did not.

    keyeforge data stream build/demo/shards/manifest.json --samples 500 --rank 1 --world-size 4
    """
    from data_engine.stream import Stream, StreamError
    from data_engine.stream import follow as following

    try:
        begun = Stream(
            str(manifest).replace(":/", "://", 1) if ":/" in str(manifest) else manifest,
            *(seed, epoch, rank, world_size),
            state=None if state is None else json.loads(state),
            split=split,
            record=record,
        )
        if audit is not None:
            _show_audit(following.audit(begun, audit), as_json=as_json)
            return
        found = following.follow(begun, samples)
    except (StreamError, ValueError) as error:
        fail(str(error))
