"""The queue's tables, on SQLite and on PostgreSQL, and how a connection to them is made."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa

metadata = sa.MetaData()
_TIME = sa.Float  # seconds since 1970: the caller says what time it is

users = sa.Table(
    "users",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("password", sa.String, nullable=False),
    sa.Column("decided", sa.Integer, nullable=False, default=0),
    sa.Column("seconds", sa.Float, nullable=False, default=0.0),
    sa.Column("gold_seen", sa.Integer, nullable=False, default=0),
    sa.Column("gold_right", sa.Integer, nullable=False, default=0),
    sa.Column("failures", sa.Integer, nullable=False, default=0),
    sa.Column("locked_until", _TIME, nullable=False, default=0.0),
)
sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("hash", sa.String, primary_key=True),
    sa.Column("user", sa.String, sa.ForeignKey("users.name"), nullable=False),
    sa.Column("expires", _TIME, nullable=False),
)
tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("priority", sa.Float, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("gold", sa.String),
    sa.Column("overlap", sa.Integer, nullable=False),
    sa.Column("decided", sa.Integer, nullable=False, default=0),
    sa.Column("free", sa.Integer, nullable=False),
    sa.Column("state", sa.String, nullable=False, default="open"),  # settled, contested, adjudicating
)
_FREE = sa.and_(tasks.c.free > 0, tasks.c.state == "open")
_CONTESTED = tasks.c.state == "contested"
# What is claimed next is the first row of this index that the annotator has not had: however many tasks there are.
sa.Index("tasks_next", tasks.c.priority.desc(), tasks.c.seq, sqlite_where=_FREE, postgresql_where=_FREE)
sa.Index("tasks_contested", tasks.c.seq, sqlite_where=_CONTESTED, postgresql_where=_CONTESTED)
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("task", sa.String, sa.ForeignKey("tasks.id"), primary_key=True),
    sa.Column("user", sa.String, primary_key=True, index=True),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("since", _TIME, nullable=False),
    sa.Column("expires", _TIME, nullable=False, index=True),
    sa.Column("adjudicates", sa.Boolean, nullable=False, default=False),
)
marks = sa.Table(  # whom a task is not given again: who decided on it, or skipped it
    "marks",
    metadata,
    sa.Column("task", sa.String, primary_key=True),
    sa.Column("user", sa.String, primary_key=True),
)
decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("task", sa.String, sa.ForeignKey("tasks.id"), primary_key=True),
    sa.Column("user", sa.String, primary_key=True),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("steps", sa.Text, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("adjudicated", sa.Boolean, nullable=False),
    sa.Column("at", _TIME, nullable=False),
)
drafts = sa.Table(
    "drafts",
    metadata,
    sa.Column("task", sa.String, primary_key=True),
    sa.Column("user", sa.String, primary_key=True),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("at", _TIME, nullable=False),
)
counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)
COUNTERS = ("token", "tasks", "settled", "contested", "decisions")
log = sa.Table(
    "log",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at", _TIME, nullable=False),
    sa.Column("user", sa.String, nullable=False),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("task", sa.String, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)

_APPEND_ONLY = {
    "sqlite": (
        "CREATE TRIGGER IF NOT EXISTS log_kept_{what} BEFORE {what} ON log "
        "BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END",
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION log_kept() RETURNS trigger AS $$ "
        "BEGIN RAISE EXCEPTION 'the log is append-only'; END $$ LANGUAGE plpgsql",
        "CREATE OR REPLACE TRIGGER log_kept_{what} BEFORE {what} ON log FOR EACH ROW EXECUTE FUNCTION log_kept()",
    ),
}


def connect(url: str) -> sa.Engine:
    """An engine whose tables are there. SQLite writes ahead (a killed server loses nothing that it has answered)."""
    engine = sa.create_engine(url, pool_pre_ping=not url.startswith("sqlite"), pool_size=40, max_overflow=20)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    with writing(engine) as db:
        if engine.dialect.name == "postgresql":  # servers that start at once make the tables one after the other
            db.exec_driver_sql("SELECT pg_advisory_xact_lock(7270)")
        metadata.create_all(db)
        for statement in _APPEND_ONLY[engine.dialect.name]:
            for what in ("UPDATE", "DELETE") if "{what}" in statement else ("",):
                db.exec_driver_sql(statement.format(what=what))
        known = set(db.scalars(sa.select(counters.c.name)))
        missing = [{"name": name, "value": 0} for name in COUNTERS if name not in known]
        if missing:
            db.execute(sa.insert(counters), missing)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says, and nowhere else
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    """Who will write takes the lock at once: two who read first and write then would end in a deadlock."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")


_WRITERS: WeakKeyDictionary[sa.Engine, Lock] = WeakKeyDictionary()


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that writes. Of this process one at a time where the database has one writer at a time: SQLite lets
    those who wait sleep for up to a tenth of a second and then whoever asks first go first.
    """
    turn = _WRITERS.setdefault(engine, Lock()) if engine.dialect.name == "sqlite" else nullcontext()
    with turn, engine.connect().execution_options(writes=True) as db, db.begin():
        yield db
