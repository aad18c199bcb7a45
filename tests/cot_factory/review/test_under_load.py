"""Fifty annotators on loopback and five thousand tasks: none is lost, none done more often than its overlap."""

import asyncio
from collections import Counter
from pathlib import Path

import sqlalchemy as sa

from cot_factory.review import store
from cot_factory.review.tables import connect, leases, log, tasks
from tests.cot_factory.review.annotators import Timed, add_people, serving, some_tasks, work, write_queue

PEOPLE, TASKS = 50, 5000


def test_fifty_people_and_five_thousand_tasks(tmp_path: Path) -> None:
    write_queue(tmp_path, some_tasks(TASKS))
    engine = connect(f"sqlite:///{tmp_path}/review/queue.sqlite")
    names = add_people(engine, PEOPLE)
    with serving(tmp_path) as (address, _):
        done = asyncio.run(_all(address, names))
    assert Counter(task for mine in done for task in mine) == {task.id: 1 for task in some_tasks(TASKS)}
    assert len({one.task for one in store.all_decisions(engine)}) == TASKS
    assert store.progress(engine) == {"tasks": TASKS, "settled": TASKS, "contested": 0, "decisions": TASKS}
    with engine.connect() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(leases)) == 0
        assert db.scalar(sa.select(sa.func.count()).where(tasks.c.free != 0)) == 0
        claims = list(db.scalars(sa.select(log.c.detail).where(log.c.action == "claim")))
    assert len(set(claims)) == len(claims) == TASKS  # every lease had a token of its own


async def _all(address: str, names: list[str]) -> list[list[str]]:
    return await asyncio.gather(*(work(address, name, 0.0, Timed()) for name in names))
