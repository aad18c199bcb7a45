"""Byte ranges of shards, each checked against the index: by memory maps on disks, by ranged requests elsewhere."""

import functools
import json
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from data_engine import shard_index
from data_engine.shard_index import Index

OPEN_SHARDS = 4096  # maps at once; the system allows 65,530 a process


class StreamError(ValueError):
    """A shard or a state that cannot be read: the message names the file and the fault."""


class ShardReader:
    """Samples of one split, as bytes, by their number in the index. To another process it goes without the index.

    `folder`: where the manifest is, a path or an address that fsspec knows. Raises StreamError.
    """

    def __init__(self, folder: str, split: str) -> None:
        self.folder, self.split = folder, split
        self.index = read_index(folder, split)
        self._map = functools.lru_cache(OPEN_SHARDS)(self._open)

    def block(self, number: int) -> memoryview:
        """All of a sample's bytes: its members as they are in the tar."""
        return next(self.blocks(np.array([number])))

    def blocks(self, numbers: npt.NDArray[np.integer[Any]]) -> Iterator[memoryview]:
        """The bytes of samples, one after the other; the index is looked up for all of them at once."""
        index = self.index
        fields = (index.shard, index.offset, index.size, index.xxh3)
        rows = zip(numbers.tolist(), *(field[numbers].tolist() for field in fields), strict=True)
        for number, shard, offset, size, checksum in rows:
            block = self._map(shard)[offset : offset + size]
            if xxh3_64_intdigest(block) != checksum:
                raise StreamError(self._fault(number, len(block)))
            yield block

    def _fault(self, number: int, found: int) -> str:
        name = self.index.shards[self.index.shard[number]]
        wanted = int(self.index.size[number])
        what = "checksum wrong" if found == wanted else f"{found:,} bytes left of {wanted:,}"
        return f"{self.folder}/{name}: sample {self.index.id(number)}: {what}; write the shard anew"

    def _open(self, shard: int) -> Any:
        """What gives the bytes of a shard by slicing."""
        path = f"{self.folder}/{self.index.shards[shard]}"
        if "://" in path:
            return _Remote(path)
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - a third faster than through Path
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except FileNotFoundError as error:
            raise StreamError(f"{path}: shard is missing; write the shards anew") from error
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise StreamError(f"{path}: cannot be read ({error}); write the shard anew") from error

    def __reduce__(self) -> tuple[type["ShardReader"], tuple[str, str]]:
        return ShardReader, (self.folder, self.split)


class _Remote:
    """A shard in an object store: a slice is one ranged request."""

    def __init__(self, path: str) -> None:
        import fsspec  # type: ignore[import-untyped]

        self.path = path
        self._files, self._name = fsspec.core.url_to_fs(path)

    def __getitem__(self, span: slice) -> memoryview:
        try:
            return memoryview(self._files.cat_file(self._name, start=span.start, end=span.stop))
        except FileNotFoundError as error:
            raise StreamError(f"{self.path}: shard is missing; write the shards anew") from error
        except Exception as error:  # the store's own kinds of error
            raise StreamError(f"{self.path}: cannot be read: {type(error).__name__}: {error}") from error


def read_manifest(path: str) -> dict[str, Any]:
    """manifest.json as data. Raises StreamError if it is not there."""
    try:
        manifest: dict[str, Any] = json.loads(_read(path))
    except FileNotFoundError as error:
        raise StreamError(f"{path}: no manifest; run `keyeforge data shard` first") from error
    return manifest


def read_index(folder: str, split: str) -> Index:
    """The index of a split; a local one is mapped, one elsewhere is fetched. Raises StreamError."""
    try:
        if "://" in folder:
            return shard_index.read(_read(f"{folder}/{split}.index.arrow"))
        return shard_index.read(shard_index.path_of(Path(folder), split))
    except FileNotFoundError as error:
        raise StreamError(f"{folder}: no index of split {split!r}; write the shards anew") from error


def _read(path: str) -> bytes:
    if "://" not in path:
        return Path(path).read_bytes()
    import fsspec

    files, name = fsspec.core.url_to_fs(path)
    content: bytes = files.cat_file(name)
    return content
