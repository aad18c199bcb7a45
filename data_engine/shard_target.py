"""Shards in an object store: every file first, the manifest last, and nothing sent that is there already.

What was sent is noted beside it (`.xxh3/<file>` holds its checksum), so that an upload goes on where it was cut short.
No reader sees a manifest whose shards are not there: before a file is replaced, the manifest that lists it goes.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import xxhash

from data_engine.media import RemoteFiles

MANIFEST = "manifest.json"
NOTES = ".xxh3"
LANES = 8  # files on their way at once


class TargetError(ValueError):
    """A target that does not take the shards: the message names the address, the file and the fix."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Files of an upload: sent now, there already, and deleted as of earlier shards; bytes that were sent."""

    sent: int
    there: int
    deleted: int
    bytes: int


def upload(folder: Path, address: str, progress: Callable[[int, int], None] = lambda done, total: None) -> Sent:
    """Makes the target hold what `folder` holds. Raises TargetError; calling again goes on.

    Files in the target that did not come from here are left alone.
    """
    try:
        return _upload(folder, RemoteFiles(address), progress)
    except Exception as error:  # the store's own kinds of error
        said = f"{type(error).__name__}: {error}"
        raise TargetError(f"shards.target: {address}: {said}; run it again to go on where it stopped") from error


def _upload(folder: Path, files: RemoteFiles, progress: Callable[[int, int], None]) -> Sent:
    local = {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and path.name != MANIFEST}
    there = files.sizes()
    with ThreadPoolExecutor(LANES) as pool:
        digests = dict(zip(local, pool.map(_digest, local.values()), strict=True))
        known = _known(files, [name for name in local if there.get(name) == local[name].stat().st_size], there, pool)
        todo = [name for name in local if known.get(name) != digests[name]]
        if any(name in there for name in todo):
            files.discard(MANIFEST)
        progress(0, len(todo))
        sending = pool.map(lambda name: _send(files, local[name], digests[name]), todo)
        try:
            for number, _ in enumerate(sending, 1):
                progress(number, len(todo))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        files.write(MANIFEST, (folder / MANIFEST).read_bytes())
        strays = [name for name in _noted(there) if name not in local]
        list(pool.map(lambda name: _drop(files, name), strays))
    sent = sum(local[name].stat().st_size for name in todo)
    return Sent(len(todo), len(local) - len(todo), len(strays), sent)


def _digest(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _noted(there: Mapping[str, int]) -> list[str]:
    """The files that an upload has sent, whole."""
    return [name.removeprefix(f"{NOTES}/") for name in there if name.startswith(f"{NOTES}/")]


def _known(
    files: RemoteFiles, names: Sequence[str], there: Mapping[str, int], pool: ThreadPoolExecutor
) -> dict[str, str]:
    """The checksums of those of `names` that have a note."""
    noted = [name for name in names if f"{NOTES}/{name}" in there]
    return dict(zip(noted, pool.map(lambda name: files.read(f"{NOTES}/{name}").decode(), noted), strict=True))


def _send(files: RemoteFiles, path: Path, digest: str) -> None:
    """The note goes first and comes last: while there is one, it is true."""
    files.discard(f"{NOTES}/{path.name}")
    files.upload(path, path.name)
    files.write(f"{NOTES}/{path.name}", digest.encode())


def _drop(files: RemoteFiles, name: str) -> None:
    files.discard(name)
    files.discard(f"{NOTES}/{name}")
