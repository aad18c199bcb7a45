"""Accounts: hashed passwords, roles, sessions, and the token that a form of a session carries."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from cot_factory.review.store import note
from cot_factory.review.tables import sessions, users, writing

Role = Literal["annotator", "adjudicator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
SHORTEST = 10
LASTS = 12 * 3600.0
FREE_TRIES, PENALTY = 5, 30.0
_HASHER = PasswordHasher()


class AccountError(ValueError):
    """An account that cannot be made or entered: one line for people."""


@dataclass(frozen=True, slots=True)
class User:
    """Who is signed in. `csrf` belongs to their session: forms and requests that change something carry it."""

    name: str
    role: Role
    csrf: str

    @property
    def adjudicates(self) -> bool:
        return self.role in {"adjudicator", "admin"}


def add(engine: sa.Engine, name: str, password: str, role: Role, now: float, by: str = "") -> None:
    """Raises AccountError for a name that is taken or unfit, and for a short password."""
    if not name.isascii() or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise AccountError(f"name {name!r}: use letters, digits, dots and dashes")
    if len(password) < SHORTEST:
        raise AccountError(f"the password has {len(password)} characters; use {SHORTEST} or more")
    if role not in ROLES:
        raise AccountError(f"role {role!r}: one of {', '.join(ROLES)}")
    row = {"name": name, "role": role, "password": _HASHER.hash(password), "decided": 0, "seconds": 0.0}
    row |= {"gold_seen": 0, "gold_right": 0, "failures": 0, "locked_until": 0.0}
    try:
        with writing(engine) as db:
            db.execute(sa.insert(users), row)
    except sa.exc.IntegrityError as error:
        raise AccountError(f"name {name!r} is taken") from error
    note(engine, now, by, "account", f"{name} {role}")


def sign_in(engine: sa.Engine, name: str, password: str, now: float) -> str:
    """A new session's secret, for a cookie; only its hash is kept. Raises AccountError, the same for a wrong name and a
    wrong password; after `FREE_TRIES` failures in a row each costs `PENALTY` seconds.
    """
    with engine.connect() as db:
        found = db.execute(sa.select(users).where(users.c.name == name)).first()
    if found and found.locked_until > now:
        raise AccountError(f"too many wrong passwords; try again in {found.locked_until - now:.0f} seconds")
    if not _fits(found.password if found else _nobody(), password):
        if found:
            _failed(engine, name, found.failures + 1, now)
        raise AccountError("wrong name or password")
    secret = secrets.token_urlsafe(32)
    with writing(engine) as db:
        db.execute(sa.delete(sessions).where(sessions.c.expires < now))
        db.execute(sa.insert(sessions), {"hash": _hash(secret), "user": name, "expires": now + LASTS})
        db.execute(sa.update(users).where(users.c.name == name).values(failures=0, locked_until=0.0))
    note(engine, now, name, "sign in")
    return secret


def _fits(hashed: str, password: str) -> bool:
    try:
        return _HASHER.verify(hashed, password)
    except (VerifyMismatchError, InvalidHashError):
        return False


@cache
def _nobody() -> str:
    """What a password of an unknown name is held against, so that it takes as long."""
    return _HASHER.hash(secrets.token_urlsafe(16))


def _failed(engine: sa.Engine, name: str, failures: int, now: float) -> None:
    until = now + PENALTY if failures >= FREE_TRIES else 0.0
    with writing(engine) as db:
        db.execute(sa.update(users).where(users.c.name == name).values(failures=failures, locked_until=until))
    note(engine, now, name, "wrong password")


_WHO = (
    sa.select(users.c.name, users.c.role, sessions.c.expires)
    .join(sessions, sessions.c.user == users.c.name)
    .where(sessions.c.hash == sa.bindparam("of"))
)


def who(engine: sa.Engine, secret: str, now: float) -> User | None:
    """Whose session it is; None for one that is over or was never there."""
    with engine.connect() as db:
        found = db.execute(_WHO, {"of": _hash(secret)}).first()
    return User(found.name, found.role, csrf_of(secret)) if found and found.expires > now else None


def sign_out(engine: sa.Engine, secret: str, name: str, now: float) -> None:
    with writing(engine) as db:
        db.execute(sa.delete(sessions).where(sessions.c.hash == _hash(secret)))
    note(engine, now, name, "sign out")


def csrf_of(secret: str) -> str:
    """Derived from the session's secret, which another site's page cannot read."""
    return hmac.digest(secret.encode(), b"csrf", "sha256").hex()


def same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
