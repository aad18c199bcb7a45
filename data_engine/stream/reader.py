"""The stream: shards read in mixed order from any place, on any number of ranks.

Which sample comes at which place is computed, not remembered, so the whole state is five integers.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from data_engine import sample as samples
from data_engine.clips import Clip
from data_engine.mixture import Order, Pool, epoch_order
from data_engine.sample import Sample
from data_engine.shards import parse


class StreamError(ValueError):
    """A shard or a state that cannot be read: the message names the file and the fault."""


@dataclass(frozen=True, slots=True)
class StreamItem:
    """One sample at its place. `media` has one entry per image or video part, in order of appearance."""

    position: int
    epoch: int
    sample: Sample
    media: list[bytes | Clip]
    tokens: int


class Stream:
    """Iterates the samples of one epoch for one rank; iterating again goes on with the next epoch.

    `mixture` (shares by modality) defaults to the manifest's; `corpora` narrows the pool to those named.
    Place k of the epoch belongs to rank k % world_size. Raises StreamError for a missing shard or a wrong checksum.
    """

    def __init__(
        self,
        manifest: Path | str,
        seed: int,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        state: Mapping[str, int] | None = None,
        *,
        mixture: Mapping[str, float] | None = None,
        corpora: Sequence[str] | None = None,
        split: str = "train",
    ) -> None:
        self.folder = Path(manifest).parent
        self.manifest = read_manifest(Path(manifest))
        self.seed, self.epoch, self.rank, self.world_size = seed, epoch, rank, world_size
        self.mixture = dict(mixture or self.manifest["mixture"]["shares"])
        self.index = _read_index(self.folder, self.manifest, split, corpora)
        self.pool = Pool(self.index["modality"].to_numpy(False), self.index["tokens"].to_numpy())
        self.position = 0
        self._files: dict[str, BinaryIO] = {}
        self._ordered: tuple[int, Order] | None = None
        if state is not None:
            self.load_state_dict(state)

    @property
    def order(self) -> Order:
        """Sample indices of the current epoch, by place."""
        if self._ordered is None or self._ordered[0] != self.epoch:
            options = self.manifest["mixture"]
            order = epoch_order(
                self.pool,
                self.mixture,
                seed=self.seed,
                epoch=self.epoch,
                epoch_tokens=options.get("epoch_tokens") if self.mixture == options["shares"] else None,
                max_repeats=options.get("max_repeats", 1) if self.mixture == options["shares"] else 1,
            )
            self._ordered = (self.epoch, order)
        return self._ordered[1]

    def __len__(self) -> int:
        """Places in the current epoch, all ranks together."""
        return len(self.order)

    def __iter__(self) -> Iterator[StreamItem]:
        order = self.order
        for position in range(self.position, len(order)):
            self.position = position + 1
            if position % self.world_size == self.rank:
                yield self.read(int(order[position]), position)
        self.epoch, self.position = self.epoch + 1, 0

    def read(self, index: int, position: int = -1) -> StreamItem:
        """The sample at `index` of the pool, its bytes checked against the index."""
        row = {name: self.index[name][index].as_py() for name in ("shard", "offset", "size", "xxh3", "tokens")}
        file = self._open(row["shard"])
        file.seek(row["offset"])
        content = file.read(row["size"])
        if xxhash.xxh3_64_intdigest(content) != row["xxh3"]:
            raise StreamError(f"{file.name}: sample {self.index['id'][index]}: checksum wrong; write the shard anew")
        found = dict(parse(content))
        document = json.loads(found.pop("json"))
        media = [_shown(number, about, found) for number, about in enumerate(document["shown"])]
        return StreamItem(position, self.epoch, samples.from_row(document), media, row["tokens"])

    def state_dict(self) -> dict[str, int]:
        """Where the stream is, after the last item handed out."""
        return {**self._identity(), "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continues at `state`, on any number of ranks. Raises StreamError if it belongs to other data."""
        self.epoch, self.position = state["epoch"], state["position"]
        ours = self._identity()
        differing = [name for name, value in ours.items() if state.get(name) != value]
        if differing:
            raise StreamError(
                f"{self.folder}: the saved stream state differs in {', '.join(differing)}: "
                "same shards, mixture and seed are needed to continue"
            )

    def _identity(self) -> dict[str, int]:
        """What the order is a function of: seed, number of samples, and a checksum of all the rest."""
        digest = zlib.crc32(json.dumps(self.mixture, sort_keys=True).encode())
        digest = zlib.crc32(np.ascontiguousarray(self.index["xxh3"].to_numpy()).tobytes(), digest)
        return {"seed": self.seed, "samples": len(self.index), "data": digest}

    def _open(self, shard: str) -> BinaryIO:
        if shard not in self._files:
            path = self.folder / shard
            if not path.exists():
                raise StreamError(f"{path}: shard is missing; write the shards anew")
            self._files[shard] = path.open("rb")
        return self._files[shard]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}


def read_manifest(path: Path) -> dict[str, Any]:
    """manifest.json as data. Raises StreamError if it is not there."""
    if not path.exists():
        raise StreamError(f"{path}: no manifest; run `keyeforge data shard` first")
    manifest: dict[str, Any] = json.loads(path.read_text())
    return manifest


def _read_index(folder: Path, manifest: Mapping[str, Any], split: str, corpora: Sequence[str] | None) -> pa.Table:
    parts = []
    for entry in manifest["splits"].get(split, []):
        table = pq.read_table(folder / entry["file"].replace(".tar", ".index.parquet"))
        parts.append(table.append_column("shard", pa.array([entry["file"]] * len(table))))
    if not parts:
        raise StreamError(f"{folder}/manifest.json: no shards in split {split!r}")
    index = pa.concat_tables(parts)
    if corpora is not None:
        known = set(index["corpus"].unique().to_pylist())
        if unknown := sorted(set(corpora) - known):
            raise StreamError(f"{folder}: no corpus {unknown[0]!r} in split {split!r}; there are: {sorted(known)}")
        index = index.filter(pa.compute.is_in(index["corpus"], value_set=pa.array(list(corpora))))
    return index.combine_chunks()


def _shown(number: int, about: Mapping[str, Any], found: Mapping[str, bytes]) -> bytes | Clip:
    if about["kind"] == "image":
        return next(data for suffix, data in found.items() if suffix.startswith(f"{number}."))
    frames = [data for suffix, data in sorted(found.items()) if suffix.startswith(f"{number}.")]
    fields = {name: about[name] for name in ("times", "is_slow", "similarity", "height", "width")}
    return Clip(frames=frames, **fields)
