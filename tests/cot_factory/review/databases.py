"""A real PostgreSQL of one's own, from Debian's packages, and a fresh database for each test."""

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PLACES = ("/usr/lib/postgresql/*/bin/initdb", "/usr/local/bin/initdb", "/usr/bin/initdb")


@functools.cache
def _binaries() -> Path | None:
    """Where the server's programs are: Debian keeps them off the path."""
    found = [path for place in _PLACES for path in sorted(Path("/").glob(place[1:]))]
    beside = shutil.which("initdb")
    return found[-1].parent if found else Path(beside).parent if beside else None


@contextmanager
def postgres() -> Iterator[str]:
    """A server in a folder of its own, reached by a socket there: its address with `{name}` for the database."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not there; apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="kf-pg-") as scratch:
        folder = Path(scratch)
        as_user = _not_root(folder)
        run = functools.partial(subprocess.run, check=True, capture_output=True, text=True, cwd="/")
        run([*as_user, str(binaries / "initdb"), "-D", f"{folder}/data", "-U", "keyeforge", "-A", "trust", "--no-sync"])
        settings = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c max_connections=200"
        control = [*as_user, str(binaries / "pg_ctl"), "-D", f"{folder}/data", "-w"]
        run([*control, "-o", settings, "-l", f"{folder}/log", "start"])
        try:
            yield f"postgresql+psycopg://keyeforge@/{{name}}?host={folder}"
        finally:
            run([*control, "-m", "immediate", "stop"])


def _not_root(folder: Path) -> list[str]:
    """The server refuses to run as root."""
    if os.getuid():
        return []
    try:
        shutil.chown(folder, "postgres")
    except LookupError:
        pytest.skip("PostgreSQL has no user `postgres` here to run as; apt-get install postgresql")
    return ["runuser", "-u", "postgres", "--"]
