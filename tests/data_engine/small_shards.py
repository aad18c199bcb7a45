"""Shards of a few samples, made in a moment: pictures, a clip, words; two shards to train on and one held out."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from data_engine import shards, tar_blocks
from tests.data_engine.sources.helpers import png

Members = list[tuple[str, bytes]]


def members(number: int, shown: list[dict[str, Any]], media: Members) -> Members:
    """A sample that shows these media, JSON first."""
    name = hashlib.sha256(str(number).encode()).hexdigest()[:24]
    modality = {"video": "video", "image": "image"}.get(shown[0]["kind"] if shown else "", "text")
    document = {"id": name, "corpus": f"c_{modality}", "modality": modality, "task": "t", "messages": []}
    return [("json", orjson.dumps({**document, "tokens": {"tiny": 10 + number}, "shown": shown})), *media]


def sample(number: int) -> Members:
    """The sample of a number: an image, a clip of three frames, two images, or words, in turn."""
    picture, still = png(shade=number % 250), {"kind": "image", "height": 8, "width": 8}
    match number % 4:
        case 0:
            return members(number, [still], [("0.png", picture)])
        case 1:
            return members(
                number, [{"kind": "video", "times": [0.0, 0.5, 1.0]}], [(f"0.{n:03d}.jpg", picture) for n in range(3)]
            )
        case 2:
            return members(number, [still, still], [("0.png", picture), ("1.jpg", picture)])
    return members(number, [], [])


def packed(key: str, found: Members) -> shards.Packed:
    """As a shard takes it, with an index that is true."""
    document = orjson.loads(dict(found)["json"])
    told = {name: document[name] for name in ("id", "corpus", "modality", "task")}
    counts = {"tokens": document["tokens"]["tiny"], "visual_tokens": 4, "squared_patches": 16}
    pictures = sum(len(one.get("times", [0])) for one in document["shown"])
    return {"key": key, **told, **counts, "pictures": pictures}, tar_blocks.block(key, found)


def write(
    folder: Path, change: Callable[[str, list[shards.Packed]], list[shards.Packed]] = lambda name, told: told
) -> Path:
    """Three shards of eight samples with their manifest; `change` may alter what goes into one. Returns the folder."""
    files = []
    for number, name in enumerate(("train-00000.tar", "train-00001.tar", "heldout-00000.tar")):
        told = [packed(f"{name[:-4]}-{place:06d}", sample(10 * number + place)) for place in range(8)]
        shards.write_shard(folder / name, change(name, told))
        files.append(folder / name)
    shards.write_manifest(
        folder, files, {"preset": "tiny", "mixture": {"shares": {"image": 0.5, "text": 0.2, "video": 0.3}}}
    )
    return folder
