"""The queue: tasks leased to people, one slot a person, with fencing tokens; decisions, adjudication, and the log.

A task has `overlap` slots. A slot is free, leased, or decided. A lease ends by a decision, by a skip, or when its time
is over and somebody claims: then the slot is free again. Every lease has a token from one counter that only grows, and
a save carries it: one whose lease is gone is refused, and its text kept as a draft (Kleppmann 2016 on fencing).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cot_factory.record import Action, Decision, Task, as_data, task_from
from cot_factory.review.tables import (
    counters,
    decisions,
    drafts,
    leases,
    log,
    marks,
    tasks,
    users,
    writing,
)

KEEPS = {"accept": "accept", "fix": "accept", "reject": "reject"}
"""What an action says of a chain: to be kept, as it is or mended, or not."""


class StaleError(Exception):
    """A save whose lease is gone: the task is somebody else's now, or done. What was written is in the drafts."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A task in somebody's hands until `expires`; `draft`: what they had written of it before, as JSON."""

    task: Task
    token: int
    since: float
    expires: float
    draft: str = ""
    adjudicates: bool = False


def load(engine: sa.Engine, found: Iterable[Task], overlap: int, now: float) -> int:
    """Adds the tasks that are not there yet; returns how many. A second load of the same tasks changes nothing."""
    with writing(engine) as db:
        db.execute(sa.select(counters).where(counters.c.name == "tasks").with_for_update())  # one load at a time
        known = set(db.scalars(sa.select(tasks.c.id)))
        first = db.scalar(sa.select(sa.func.coalesce(sa.func.max(tasks.c.seq), 0))) or 0
        new = {task.id: task for task in found if task.id not in known}
        rows = [
            {
                "id": task.id, "seq": first + number, "priority": task.uncertainty, "gold": task.gold,
                "payload": json.dumps(as_data(task), ensure_ascii=False), "overlap": overlap, "free": overlap,
                "decided": 0, "state": "open",
            }
            for number, task in enumerate(new.values(), start=1)
        ]  # fmt: skip
        if rows:
            db.execute(sa.insert(tasks), rows)
            _count(db, "tasks", len(rows))
            _note(db, now, "", "load", "", f"{len(rows)} tasks")
    return len(rows)


def claim(engine: sa.Engine, user: str, now: float, seconds: float, *, adjudicate: bool = False) -> Lease | None:
    """The task that the user holds, else the most uncertain that is free and new to them; None if there is none."""
    _sweep(engine, now)
    with writing(engine) as db:
        db.execute(_ONE_AT_A_TIME, {"of": user})
        held = db.execute(_HELD, {"of": user, "adjudicates": adjudicate}).first()
        if held and db.execute(_EXTEND, {"on": held.task, "of": user, "until": now + seconds}).rowcount:
            return _lease(db, user, held.task, held.token, held.since, now + seconds, adjudicate)
        query = _CONTESTED if adjudicate else _NEXT
        name = db.scalar(query.with_for_update(skip_locked=True, of=tasks), {"of": user})
        if name is None:  # or all that are left are being claimed or decided this moment: then it is worth waiting
            name = db.scalar(query.with_for_update(of=tasks), {"of": user})
        if name is None:
            return None
        token = _count(db, "token", 1)
        db.execute(
            sa.insert(leases),
            {
                "task": name,
                "user": user,
                "token": token,
                "since": now,
                "expires": now + seconds,
                "adjudicates": adjudicate,
            },
        )
        if adjudicate:
            db.execute(_STATE, {"on": name, "became": "adjudicating"})
        else:
            db.execute(_FREE, {"on": name, "more": -1})
        _note(db, now, user, "adjudicating" if adjudicate else "claim", name, str(token))
        return _lease(db, user, name, token, now, now + seconds, adjudicate)


# A person's requests come one after the other: two of theirs at once would wait for each other's rows for ever.
_ONE_AT_A_TIME = sa.select(users.c.name).where(users.c.name == sa.bindparam("of")).with_for_update()
_NOT_MINE = ~sa.exists().where(marks.c.task == tasks.c.id, marks.c.user == sa.bindparam("of"))
_NEXT = (
    sa.select(tasks.c.id)
    .where(tasks.c.free > 0, tasks.c.state == "open", _NOT_MINE)
    .order_by(tasks.c.priority.desc(), tasks.c.seq)
    .limit(1)
)
_DECIDED = sa.exists().where(decisions.c.task == tasks.c.id, decisions.c.user == sa.bindparam("of"))
_HOLDS = sa.exists().where(leases.c.task == tasks.c.id, leases.c.user == sa.bindparam("of"))
_CONTESTED = (
    sa.select(tasks.c.id).where(tasks.c.state == "contested", ~_DECIDED, ~_HOLDS).order_by(tasks.c.seq).limit(1)
)
_HELD = sa.select(leases).where(
    leases.c.user == sa.bindparam("of"), leases.c.adjudicates == sa.bindparam("adjudicates")
)
_MINE = (leases.c.task == sa.bindparam("on"), leases.c.user == sa.bindparam("of"))
_EXTEND = sa.update(leases).where(*_MINE).values(expires=sa.bindparam("until"))
_FREE = sa.update(tasks).where(tasks.c.id == sa.bindparam("on")).values(free=tasks.c.free + sa.bindparam("more"))
_STATE = sa.update(tasks).where(tasks.c.id == sa.bindparam("on")).values(state=sa.bindparam("became"))
_ANY_OVER = sa.select(leases.c.task).where(leases.c.expires < sa.bindparam("now")).limit(1)
_OVER = (  # those that another claim is ending are left to it; in one order, so that no two wait for each other
    sa.select(leases)
    .where(leases.c.expires < sa.bindparam("now"))
    .order_by(leases.c.task, leases.c.user)
    .with_for_update(skip_locked=True)
)


def _sweep(engine: sa.Engine, now: float) -> None:
    """Leases whose time is over end, and their slots are free: in a transaction of their own, or two people whose
    leases are both over would each end the other's and wait for their own.
    """
    with engine.connect() as db:
        if db.execute(_ANY_OVER, {"now": now}).first() is None:
            return
    with writing(engine) as db:
        for over in db.execute(_OVER, {"now": now}).all():
            if db.execute(sa.delete(leases).where(*_MINE), {"on": over.task, "of": over.user}).rowcount:
                _give_back(db, over.task, over.adjudicates)
                _note(db, now, over.user, "expired", over.task, str(over.token))


def _give_back(db: sa.Connection, task: str, adjudicates: bool) -> None:
    if adjudicates:
        db.execute(_STATE, {"on": task, "became": "contested"})
    else:
        db.execute(_FREE, {"on": task, "more": 1})


def _lease(
    db: sa.Connection, user: str, name: str, token: int, since: float, expires: float, adjudicates: bool
) -> Lease:
    payload = db.scalar(sa.select(tasks.c.payload).where(tasks.c.id == name))
    draft = db.scalar(sa.select(drafts.c.content).where(drafts.c.task == name, drafts.c.user == user))
    return Lease(task_from(json.loads(payload or "")), token, since, expires, draft or "", adjudicates)


def beat(engine: sa.Engine, user: str, task: str, token: int, draft: str, now: float, seconds: float) -> None:
    """Keeps a lease alive, and what was written meanwhile. Raises StaleError; the text is kept all the same."""
    with writing(engine) as db:
        db.execute(_ONE_AT_A_TIME, {"of": user})
        _keep_draft(db, user, task, draft, now)
        held = db.execute(_EXTEND.where(leases.c.token == token), {"on": task, "of": user, "until": now + seconds})
        stale = not held.rowcount
        if stale:
            _note(db, now, user, "refused", task, f"heartbeat with {token}")
    if stale:
        raise StaleError(task)


def decide(engine: sa.Engine, user: str, token: int, decision: Decision, now: float, draft: str = "") -> None:
    """Takes a person's decision (`skip` leaves the slot to others). Raises StaleError; the text is kept as a draft."""
    with writing(engine) as db:
        db.execute(_ONE_AT_A_TIME, {"of": user})
        held = db.execute(
            sa.delete(leases).where(*_MINE, leases.c.token == token).returning(leases.c.since, leases.c.adjudicates),
            {"on": decision.task, "of": user},
        ).first()
        if held is None:
            _keep_draft(db, user, decision.task, draft, now)
            _note(db, now, user, "refused", decision.task, f"{decision.action} with {token}")
        elif held.adjudicates:
            _adjudicated(db, user, decision, now - held.since, now)
        else:
            _decided(db, user, decision, now - held.since, now)
    if held is None:
        raise StaleError(decision.task)


def _decided(db: sa.Connection, user: str, decision: Decision, spent: float, now: float) -> None:
    name = decision.task
    db.execute(sa.delete(drafts).where(drafts.c.task == name, drafts.c.user == user))
    db.execute(sa.insert(marks), {"task": name, "user": user})
    _note(db, now, user, decision.action, name, decision.why)
    if decision.action == "skip":
        _give_back(db, name, adjudicates=False)
        return
    _insert(db, user, decision, spent, now, adjudicated=False)
    query = sa.update(tasks).where(tasks.c.id == name).values(decided=tasks.c.decided + 1)
    task = db.execute(query.returning(tasks.c.decided, tasks.c.gold, tasks.c.overlap, tasks.c.state)).one()
    _credit(db, user, decision.action, task.gold, spent)
    if decision.action == "escalate" or task.decided == task.overlap:
        _settle(db, name, task.state)


def _credit(db: sa.Connection, user: str, action: Action, gold: str | None, spent: float) -> None:
    """The person's own numbers. What a control should come to is compared and never shown."""
    values: dict[str, Any] = {"decided": users.c.decided + 1, "seconds": users.c.seconds + spent}
    if gold is not None:
        values |= {"gold_seen": users.c.gold_seen + 1}
        values |= {"gold_right": users.c.gold_right + int(KEEPS.get(action) == gold)}
    db.execute(sa.update(users).where(users.c.name == user).values(**values))


def _settle(db: sa.Connection, name: str, state: str) -> None:
    """A task that all have decided on: settled where they agree, else an adjudicator's. Nobody else gets it."""
    if state != "open":
        return
    told = db.execute(
        sa.select(decisions.c.action, decisions.c.steps, decisions.c.answer).where(decisions.c.task == name)
    ).all()
    mended = {(one.steps, one.answer) for one in told if one.action == "fix"}
    agree = len({KEEPS.get(one.action, one.action) for one in told}) == 1 and len(mended) <= 1
    became = "settled" if agree and told[0].action != "escalate" else "contested"
    db.execute(sa.update(tasks).where(tasks.c.id == name).values(state=became))
    _count(db, became, 1)


def _adjudicated(db: sa.Connection, user: str, decision: Decision, spent: float, now: float) -> None:
    """The decision that holds; a skip leaves the task to other adjudicators."""
    _note(db, now, user, f"adjudicated: {decision.action}", decision.task, decision.why)
    if decision.action in {"skip", "escalate"}:
        _give_back(db, decision.task, adjudicates=True)
        return
    _insert(db, user, decision, spent, now, adjudicated=True)
    db.execute(sa.update(tasks).where(tasks.c.id == decision.task).values(state="settled"))
    _count(db, "contested", -1)
    _count(db, "settled", 1)


def _insert(db: sa.Connection, user: str, decision: Decision, spent: float, now: float, *, adjudicated: bool) -> None:
    row = {
        "task": decision.task, "user": user, "action": decision.action, "answer": decision.answer,
        "steps": json.dumps(decision.steps, ensure_ascii=False), "why": decision.why, "seconds": spent,
        "adjudicated": adjudicated, "at": now,
    }  # fmt: skip
    db.execute(sa.insert(decisions), row)
    _count(db, "decisions", 1)


def _keep_draft(db: sa.Connection, user: str, task: str, content: str, now: float) -> None:
    if content:
        mine = (drafts.c.task == task, drafts.c.user == user)
        if not db.execute(sa.update(drafts).where(*mine).values(content=content, at=now)).rowcount:
            db.execute(sa.insert(drafts), {"task": task, "user": user, "content": content, "at": now})


def _count(db: sa.Connection, name: str, more: int) -> int:
    query = sa.update(counters).where(counters.c.name == name).values(value=counters.c.value + more)
    value: int = db.execute(query.returning(counters.c.value)).scalar_one()
    return value


def _note(db: sa.Connection, now: float, user: str, action: str, task: str, detail: str) -> None:
    db.execute(sa.insert(log), {"at": now, "user": user, "action": action, "task": task, "detail": detail})


def note(engine: sa.Engine, now: float, user: str, action: str, detail: str = "") -> None:
    """A line of the log about something that is no task."""
    with writing(engine) as db:
        _note(db, now, user, action, "", detail)


def progress(engine: sa.Engine) -> dict[str, int]:
    """How many tasks, settled and contested ones, and decisions there are: kept as they come, never counted."""
    with engine.connect() as db:
        return {row.name: row.value for row in db.execute(sa.select(counters)) if row.name != "token"}


def all_decisions(engine: sa.Engine) -> list[Decision]:
    """Every decision, in the order they came."""
    with engine.connect() as db:
        return [_decision(row) for row in db.execute(sa.select(decisions).order_by(decisions.c.at, decisions.c.task))]


def decisions_on(engine: sa.Engine, task: str) -> list[Decision]:
    with engine.connect() as db:
        query = sa.select(decisions).where(decisions.c.task == task).order_by(decisions.c.at)
        return [_decision(row) for row in db.execute(query)]


def _decision(row: Any) -> Decision:
    steps: Sequence[str] = json.loads(row.steps)
    return Decision(row.task, row.user, row.action, tuple(steps), row.answer, row.why, row.seconds, row.adjudicated)
