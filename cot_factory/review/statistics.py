"""What people have done, for their own page and for the admin's."""

import time
from typing import Any

import sqlalchemy as sa

from cot_factory.review.tables import decisions, log, users

_COLUMNS = (users.c.name, users.c.role, users.c.decided, users.c.seconds, users.c.gold_seen, users.c.gold_right)


def of_user(engine: sa.Engine, name: str) -> dict[str, Any]:
    """One's own numbers: decisions, minutes each, and how many of each action."""
    with engine.connect() as db:
        row = db.execute(sa.select(*_COLUMNS).where(users.c.name == name)).one()
        query = sa.select(decisions.c.action, sa.func.count()).where(decisions.c.user == name)
        actions = {row[0]: row[1] for row in db.execute(query.group_by(decisions.c.action))}
    return {**_told(row), "actions": dict(sorted(actions.items()))}


def of_all(engine: sa.Engine) -> list[dict[str, Any]]:
    with engine.connect() as db:
        return [_told(row) for row in db.execute(sa.select(*_COLUMNS).order_by(users.c.name))]


def _told(row: Any) -> dict[str, Any]:
    return {
        "name": row.name,
        "role": row.role,
        "decided": row.decided,
        "minutes": row.seconds / 60,
        "seconds_each": row.seconds / row.decided if row.decided else None,
        "gold_seen": row.gold_seen,
        "gold_accuracy": row.gold_right / row.gold_seen if row.gold_seen else None,
    }


def latest(engine: sa.Engine, number: int) -> list[dict[str, str]]:
    """The last lines of the log, the newest first."""
    with engine.connect() as db:
        rows = db.execute(sa.select(log).order_by(log.c.id.desc()).limit(number)).all()
    return [
        {
            "at": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row.at)),
            "user": row.user, "action": row.action, "task": row.task, "detail": row.detail,
        }
        for row in rows
    ]  # fmt: skip
