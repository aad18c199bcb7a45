"""A sample out of its bytes: what the stream hands out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from data_engine import sample as samples
from data_engine.clips import Clip
from data_engine.sample import Sample
from data_engine.stream.shard_reader import ShardReader
from data_engine.tar_blocks import parse


@dataclass(frozen=True, slots=True)
class StreamItem:
    """One sample at its place. `media` has one entry per image or video part, in order of appearance."""

    epoch: int
    position: int
    number: int
    sample: Sample
    media: list[bytes | Clip]
    tokens: int


def read_item(reader: ShardReader, number: int, position: int = -1, epoch: int = 0) -> StreamItem:
    """A sample by its number in the index, at a place. Raises StreamError."""
    found = {suffix: bytes(data) for suffix, data in parse(reader.block(number))}
    document = orjson.loads(found.pop("json"))
    media = [_shown(part, about, found) for part, about in enumerate(document["shown"])]
    return StreamItem(epoch, position, number, samples.from_row(document), media, int(reader.index.tokens[number]))


def _shown(number: int, about: Mapping[str, Any], found: Mapping[str, bytes]) -> bytes | Clip:
    if about["kind"] == "image":
        return next(data for suffix, data in found.items() if suffix.startswith(f"{number}."))
    frames = [data for suffix, data in found.items() if suffix.startswith(f"{number}.")]
    fields = {name: about[name] for name in ("times", "is_slow", "similarity", "height", "width")}
    return Clip(frames=frames, **fields)
