"""A queue's server as its users start it, and annotators that work through it over HTTP, each signed in."""

import asyncio
import html
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from cot_factory.record import Finding, Step, Task, as_data
from cot_factory.review import accounts

PASSWORD = "correct horse battery"
_TASK = re.compile(r'data-task="([^"]*)" data-token="(\d+)"')
_CSRF = re.compile(r'data-csrf="([0-9a-f]+)"')


def some_tasks(number: int) -> list[Task]:
    """Tasks with formulas, findings and unequal priorities."""
    finding = Finding("arithmetic", False, "7 + 5 = 13, but it is 12", True)
    return [
        Task(
            id=f"task-{at:06d}", domain="mathematics", question=f"What is $7 + {at}$?", reference=str(7 + at),
            answer=str(7 + at), original=("1. First.", f"2. Then {at}."),
            steps=(Step(f"1. We add $7 + {at}$.", 0.91), Step(f"2. That is {8 + at}.", 0.42, (finding,))),
            reason="flawed: arithmetic", confidence=0.6, uncertainty=(at * 7919 % 1000) / 1000,
        )
        for at in range(number)
    ]  # fmt: skip


def write_queue(folder: Path, tasks: list[Task]) -> None:
    """The tasks where a run of the factory leaves them."""
    (folder / "review").mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(as_data(task)) + "\n" for task in tasks)
    (folder / "review" / "tasks.jsonl").write_text(lines)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def serving(folder: Path, *options: str, port: int | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`keyeforge cot review serve` on the folder: its address and its process, which is killed in the end."""
    port = port or free_port()
    command = [sys.executable, "-m", "cot_factory.review.cli", "serve", "--data", str(folder), "--port", str(port)]
    environment = {**os.environ, "KEYEFORGE_REVIEW_PASSWORD": PASSWORD}
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen([*command, *options], env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(address, server, folder / "server.log")
        yield address, server
    finally:
        server.kill()
        server.wait()


def _wait(address: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        with suppress(OSError):
            urllib.request.urlopen(f"{address}/sign-in", timeout=5).close()
            return
        if server.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the server did not come up:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)


def add_people(engine: object, number: int) -> list[str]:
    """Annotators; their hashing is made once, as all have one password."""
    import sqlalchemy as sa

    from cot_factory.review.tables import users, writing

    assert isinstance(engine, sa.Engine)
    names = [f"person-{at:02d}" for at in range(number)]
    accounts.add(engine, names[0], PASSWORD, "annotator", 0.0)
    with writing(engine) as db:
        row = dict(db.execute(sa.select(users).where(users.c.name == names[0])).one()._mapping)
        if names[1:]:
            db.execute(sa.insert(users), [{**row, "name": name} for name in names[1:]])
    return names


@dataclass
class Timed:
    """How long requests took, in seconds, by kind."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, kind: str, taken: float) -> None:
        self.seconds.setdefault(kind, []).append(taken)


async def work(
    address: str,
    name: str,
    thinking: float,
    timed: Timed,
    until: Callable[[], bool] = lambda: False,
    beats: bool = False,
    ready: Callable[[], Awaitable[None]] | None = None,
) -> list[str]:
    """Signs in and decides on tasks until there are none or it is time: the ids of those that were taken.

    `thinking` seconds go before each action. `beats`: one action is the page's telling that it is alive. `ready`:
    awaited once signed in.
    """
    done: list[str] = []
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        form = {"name": name, "password": PASSWORD}
        async with session.post(f"{address}/sign-in", data=form, allow_redirects=False) as reply:
            assert reply.status == 303, await reply.text()
        if ready is not None:
            await ready()
        while not until():
            page = await _timed(timed, "page", session.get(f"{address}/"))
            found = _TASK.search(page)
            if found is None:
                break
            csrf = _CSRF.search(page)
            assert csrf
            task, token = html.unescape(found[1]), int(found[2])
            headers = {"X-CSRF-Token": csrf[1]}
            await asyncio.sleep(thinking)
            if beats:
                body = {"token": token}
                await _timed(timed, "beat", session.post(f"{address}/task/{task}/beat", json=body, headers=headers))
                await asyncio.sleep(thinking)
            body = {"token": token, "action": "accept" if int(task[-1], 36) % 3 else "reject", "why": "as I see it"}
            await _timed(timed, "decide", session.post(f"{address}/task/{task}/decide", json=body, headers=headers))
            done.append(task)
    return done


async def _timed(timed: Timed, kind: str, asked: "aiohttp.client._RequestContextManager") -> str:
    start = time.perf_counter()
    async with asked as reply:
        text = await reply.text()
    timed.add(kind, time.perf_counter() - start)
    assert reply.status == 200, f"{kind}: {reply.status}: {text[:300]}"
    return text
