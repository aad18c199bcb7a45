"""Plain WebDataset tars, each with an index written while writing.

A sample is a run of members that share a key, which no other sample of the run has: `<key>.json` (the sample, its
tokens, its media's layout), then its media in order of appearance: `<key>.<n>.<ext>` for an image,
`<key>.<n>.<frame>.jpg` for the frames of a clip. The same rows give the same bytes. The index knows each sample's byte
range and checksum, so that a reader can start anywhere without a pass over the data.
"""

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from data_engine import clips, shard_index, tables, tar_blocks
from data_engine import sample as samples
from data_engine.media import MediaStore, decode_image, encode_jpeg, incoming, open_image, shrink, write_atomic
from data_engine.sample import Part, Sample
from data_engine.tokens import MIXED
from model.visual_tokens import visual_budget

FORMAT_VERSION = 2
INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("id", pa.string()),
        ("corpus", pa.string()),
        ("task", pa.string()),
        ("modality", pa.string()),
        ("tokens", pa.int64()),
        ("visual_tokens", pa.int64()),
        ("pictures", pa.int32()),
        ("squared_patches", pa.int64()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("xxh3", pa.uint64()),
    ]
)
Members = list[tuple[str, bytes]]
Packed = tuple[Mapping[str, Any], bytes]
"""A sample on its way into a shard: what the index says of it, and its bytes."""

_TOLD = ("id", "corpus", "task", "modality", *MIXED)
_FIELDS = tuple(field.name for field in dataclasses.fields(Sample))
_CLIP = ("times", "is_slow", "similarity", "height", "width")


@dataclass(frozen=True, slots=True)
class Layout:
    """What shard writing needs to know: where media and frames are, how they are shown, and a shard's most bytes."""

    store: Path
    frames: Path
    fps: float
    max_side: int | None
    preset: str
    max_bytes: int | None = None


def shard_partition(table: pa.Table, *, layout: Layout, folder: Path) -> dict[str, pa.Table]:
    """Writes the tar of pool rows (samples with `MIXED`, `split` and `shard`); returns its index.

    Rows of more than `max_bytes` fill several: `train-00012.tar`, then `train-00012_00001.tar`.
    """
    rows = table.to_pylist()
    split, shard = rows[0]["split"], rows[0]["shard"]
    packed = (pack(f"{split}-{shard:05d}-{number:06d}", row, layout) for number, row in enumerate(rows))
    indexes = []
    for part, group in itertools.groupby(packed, _part_of(layout.max_bytes)):
        path = folder / f"{split}-{shard:05d}{f'_{part:05d}' if part else ''}.tar"
        index = write_shard(path, group)
        indexes.append(index.append_column("shard", pa.array([path.name] * len(index))))
    return {"index": pa.concat_tables(indexes)}


def _part_of(max_bytes: int | None) -> Any:
    """Into which file of a partition the next sample goes, none over `max_bytes` but one that holds it alone."""
    part, filled = 0, len(tar_blocks.END)

    def place(packed: Packed) -> int:
        nonlocal part, filled
        size = len(packed[1])
        if max_bytes is not None and filled > len(tar_blocks.END) and filled + size > max_bytes:
            part, filled = part + 1, len(tar_blocks.END)
        filled += size
        return part

    return place


def pack(key: str, row: Mapping[str, Any], layout: Layout) -> Packed:
    """A pool row as a shard takes it. Raises MediaError or ValueError naming the medium, or a sample over 2 GiB."""
    content = tar_blocks.block(key, members(samples.from_row(dict(row)), row["tokens"], layout))
    return {"key": key, **{name: row[name] for name in _TOLD}}, content


def write_shard(path: Path, packed: Iterable[Packed]) -> pa.Table:
    """Writes a tar and, beside it, its index; returns the index."""
    index = []
    offset = 0
    with incoming(path) as file:
        for told, content in packed:
            file.write(content)
            size = len(content)
            index.append({**told, "offset": offset, "size": size, "xxh3": xxhash.xxh3_64_intdigest(content)})
            offset += size
        file.write(tar_blocks.END)
    entries = pa.Table.from_pylist(index, schema=INDEX_SCHEMA)
    tables.write(entries, index_of(path))
    return entries


def index_of(tar: Path) -> Path:
    """Where the index of a shard is."""
    return tar.with_suffix(".index.parquet")


def members(sample: Sample, num_tokens: int, layout: Layout) -> Members:
    """The files of one sample, `.json` first. Raises MediaError or ValueError naming the medium."""
    media: Members = []
    described = []
    for number, part in enumerate(visual_parts(sample)):
        found, about = _image(sample, part, layout) if part.kind == "image" else _clip(sample, part, layout)
        media += [(f"{number}.{suffix}", data) for suffix, data in found]
        described.append(about)
    document = {
        **{name: getattr(sample, name) for name in _FIELDS},
        "tokens": {layout.preset: num_tokens},
        "shown": described,
        "shard_format": FORMAT_VERSION,
    }
    return [("json", orjson.dumps(document)), *media]


def visual_parts(sample: Sample) -> list[Part]:
    """Image and video parts in order of appearance."""
    return [part for message in sample.messages for part in message.parts if part.kind != "text"]


def _image(sample: Sample, part: Part, layout: Layout) -> tuple[Members, dict[str, Any]]:
    """The one member of an image, and its size as it is stored."""
    item = sample.media[part.media[0]]
    if item.start is not None:
        frame = clips.span(layout.frames, item)[0]
        return [("jpg", frame)], _still(*open_image(frame).size)
    data = MediaStore(layout.store).read(item.key)
    header = open_image(data)
    plain = header.mode == "RGB" and not header.getexif() and getattr(header, "n_frames", 1) == 1
    if plain and max(header.size) <= (layout.max_side or max(header.size)) and header.format in {"PNG", "JPEG"}:
        return [("png" if header.format == "PNG" else "jpg", data)], _still(*header.size)
    pixels = shrink(decode_image(data), layout.max_side)
    return [("jpg", encode_jpeg(pixels))], _still(pixels.shape[1], pixels.shape[0])


def _still(width: int, height: int) -> dict[str, Any]:
    return {"kind": "image", "height": height, "width": width}


def _clip(sample: Sample, part: Part, layout: Layout) -> tuple[Members, dict[str, Any]]:
    spans = [sample.media[index] for index in part.media]
    clip = clips.build(spans, layout.frames, fps=layout.fps, budget=visual_budget(layout.preset))
    about = {"kind": "video", **{name: getattr(clip, name) for name in _CLIP}}
    return [(f"{index:03d}.jpg", frame) for index, frame in enumerate(clip.frames)], about


def write_manifest(folder: Path, files: Sequence[Path], about: Mapping[str, Any]) -> dict[str, Any]:
    """The index of each split, and last `manifest.json`: the splits and their shards, with what the stream needs
    (preset, mixture).
    """
    splits: dict[str, list[dict[str, Any]]] = {}
    for split, group in itertools.groupby(sorted(files), split_of):
        indexes = {path.name: pq.read_table(index_of(path), columns=shard_index.TOLD) for path in group}
        shard_index.write_split(shard_index.path_of(folder, split), indexes)
        splits[split] = [_entry(folder / name, len(index)) for name, index in indexes.items()]
    manifest = manifest_of(about, splits)
    write_atomic(folder / "manifest.json", json.dumps(manifest, indent=1).encode())
    return manifest


def split_of(tar: Path) -> str:
    """The split that a shard's name tells."""
    return tar.name.rpartition("-")[0]


def _entry(tar: Path, num_samples: int) -> dict[str, Any]:
    return {"file": tar.name, "samples": num_samples, "bytes": tar.stat().st_size}


def manifest_of(about: Mapping[str, Any], splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """manifest.json as data. `indexes`: each split's file, beside its shards; `shardlist`: the training shards as
    `wids` reads them.
    """
    folders = {split: entries[0]["file"].rpartition("/")[0] for split, entries in splits.items() if entries}
    return {
        "format": FORMAT_VERSION,
        **about,
        "splits": splits,
        "indexes": {split: str(shard_index.path_of(Path(folder), split)) for split, folder in folders.items()},
        "wids_version": 1,
        "shardlist": [{"url": entry["file"], "nsamples": entry["samples"]} for entry in splits.get("train", ())],
    }


def summary(folder: Path) -> dict[str, int]:
    """Shards, samples and bytes of all splits together."""
    manifest = json.loads((folder / "manifest.json").read_text())
    entries = [entry for split in manifest["splits"].values() for entry in split]
    sums = {name: sum(entry[name] for entry in entries) for name in ("samples", "bytes")}
    return {"count": len(entries), **sums}
