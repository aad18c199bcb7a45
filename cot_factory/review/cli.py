"""`keyeforge cot review`: the queue in which people look at chains of thought."""

import json
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from cot_factory.review import cli_quality
from data_engine.cli_output import DataOption, console, fail

if TYPE_CHECKING:
    import sqlalchemy as sa

    from cot_factory.record import Task

app = typer.Typer(help="Review chains of thought: serve the queue, take its decisions back.", no_args_is_help=True)
app.add_typer(cli_quality.app)
DbOption = Annotated[
    str,
    typer.Option("--db", help="The queue's database; default: SQLite in DIR/review. postgresql+psycopg://… works too."),
]
PASSWORD = "KEYEFORGE_REVIEW_PASSWORD"


@app.command()
def serve(
    data: DataOption = Path("build/demo/cot"),
    db: DbOption = "",
    host: Annotated[
        str, typer.Option(help="Where to listen; 0.0.0.0 for other machines, behind a proxy with TLS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0: any that is free.")] = 8080,
    lease: Annotated[float, typer.Option(help="Seconds a task stays with a page that says nothing.", min=3)] = 300.0,
    overlap: Annotated[int, typer.Option(help="How many people decide on each task.", min=1)] = 1,
) -> None:
    """Serves the tasks of a factory's run (DIR/review/tasks.jsonl) to annotators.

    The first time, an admin is made and its password printed. Stop it whenever you like: leases, drafts and decisions
    are in the database.

    keyeforge cot review serve --data build/demo/cot
    """
    import uvicorn

    from cot_factory.review.app import make_app
    from data_engine.media import MediaStore, store_of

    engine = _engine(data, db)
    added = _load(engine, data, overlap)
    _first_account(engine)
    console.print(f"{added} new tasks", highlight=False)
    api = make_app(engine, MediaStore(store_of(data)), lease)
    uvicorn.run(api, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=3)


@app.command()
def load(
    data: DataOption = Path("build/demo/cot"),
    db: DbOption = "",
    overlap: Annotated[int, typer.Option(help="How many people decide on each task.", min=1)] = 1,
) -> None:
    """Adds the tasks of a run that are not in the queue yet.

    keyeforge cot review load --data build/demo/cot
    """
    console.print(f"{_load(_engine(data, db), data, overlap)} new tasks", highlight=False)


@app.command()
def account(
    name: Annotated[str, typer.Argument(help="The name to sign in with.")],
    role: Annotated[str, typer.Option(help="annotator, adjudicator or admin.")] = "annotator",
    data: DataOption = Path("build/demo/cot"),
    db: DbOption = "",
) -> None:
    """Makes an account; the password is asked for, or taken from KEYEFORGE_REVIEW_PASSWORD.

    keyeforge cot review account ann --role annotator --data build/demo/cot
    """
    from cot_factory.review import accounts

    if role not in get_args(accounts.Role):
        fail(f"--role {role}: choose {', '.join(accounts.ROLES)}")
    password = os.environ.get(PASSWORD) or typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    try:
        accounts.add(_engine(data, db), name, password, role, time.time(), by="command line")  # type: ignore[arg-type]
    except accounts.AccountError as error:
        fail(str(error))
    console.print(f"{name} may sign in as {role}", highlight=False)


@app.command()
def decisions(data: DataOption = Path("build/demo/cot"), db: DbOption = "") -> None:
    """Writes what people decided to DIR/review/decisions.jsonl, where the next `keyeforge cot run` takes it up.

    keyeforge cot review decisions --data build/demo/cot
    """
    from cot_factory.record import as_data
    from cot_factory.review import interchange, store
    from data_engine.media import write_atomic

    # What `import` brought from another tool is not in the queue, and stays.
    found = interchange.merged(cli_quality.decisions_of(data), store.all_decisions(_engine(data, db)))
    lines = "".join(f"{json.dumps(as_data(one), ensure_ascii=False)}\n" for one in found)
    write_atomic(data / "review" / "decisions.jsonl", lines.encode())
    console.print(f"{len(found)} decisions", highlight=False)


def _engine(data: Path, db: str) -> "sa.Engine":
    import sqlalchemy as sa

    from cot_factory.review.tables import connect

    if not data.is_dir():
        fail(f"--data {data}: no such folder; run `keyeforge cot run RECIPE --out {data}` first")
    (data / "review").mkdir(exist_ok=True)
    try:
        return connect(db or f"sqlite:///{(data / 'review' / 'queue.sqlite').resolve()}")
    except (sa.exc.SQLAlchemyError, ModuleNotFoundError) as error:
        fail(f"--db {db.partition('@')[2] or db}: cannot be used: {str(error).splitlines()[0]}")


def _load(engine: "sa.Engine", data: Path, overlap: int) -> int:
    from cot_factory.review import store

    path = data / "review" / "tasks.jsonl"
    if not path.is_file():
        fail(f"{path}: no tasks there; run `keyeforge cot run RECIPE --out {data}` first")
    return store.load(engine, read_tasks(path), overlap, time.time())


def read_tasks(path: Path) -> "list[Task]":
    """The tasks of a file; a line that is none ends the command."""
    from cot_factory.record import task_from

    found = []
    # Not `splitlines`: a text may hold U+2028, where a line of JSON does not end.
    for number, line in enumerate(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"), start=1):
        if not line:
            continue
        try:
            found.append(task_from(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            fail(f"{path}:{number}: not a task ({error}); write it anew with `keyeforge cot run`")
    return found


def _first_account(engine: "sa.Engine") -> None:
    import sqlalchemy as sa

    from cot_factory.review import accounts
    from cot_factory.review.tables import users

    with engine.connect() as db:
        if db.scalar(sa.select(users.c.name).limit(1)):
            return
    password = os.environ.get(PASSWORD) or secrets.token_urlsafe(9)
    try:
        accounts.add(engine, "admin", password, "admin", time.time(), by="command line")
    except accounts.AccountError as error:
        fail(f"{PASSWORD}: {error}")
    shown = "the password in KEYEFORGE_REVIEW_PASSWORD" if os.environ.get(PASSWORD) else f"password {password}"
    console.print(f"sign in as admin, {shown}", highlight=False)


if __name__ == "__main__":
    app()
