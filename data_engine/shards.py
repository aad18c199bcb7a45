"""Plain WebDataset tars, each with an index written while writing.

A sample is a run of members that share a key: `<key>.json` (the sample, its tokens, its media's layout),
then its media in order of appearance: `<key>.<n>.<ext>` for an image, `<key>.<n>.<frame>.jpg` for the
frames of a clip. The same rows give the same bytes. The index knows each sample's byte range and checksum,
so that a reader can start anywhere without a pass over the data.
"""

import dataclasses
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import xxhash

from data_engine import clips, tables
from data_engine import sample as samples
from data_engine.media import MediaStore, decode_image, encode_jpeg, incoming, open_image, shrink, write_atomic
from data_engine.sample import Part, Sample
from model.visual_tokens import visual_budget

FORMAT_VERSION = 1
INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("id", pa.string()),
        ("corpus", pa.string()),
        ("task", pa.string()),
        ("modality", pa.string()),
        ("tokens", pa.int64()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("xxh3", pa.uint64()),
    ]
)
Members = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Layout:
    """What shard writing needs to know: where media and frames are, and how they are shown."""

    store: Path
    frames: Path
    fps: float
    max_side: int | None
    preset: str


def shard_partition(table: pa.Table, *, layout: Layout, folder: Path) -> dict[str, pa.Table]:
    """Writes one tar from pool rows (samples with `tokens`, `split` and `shard`); returns its index."""
    first = table.slice(0, 1).to_pylist()[0]
    path = folder / f"{first['split']}-{first['shard']:05d}.tar"
    index = []
    with incoming(path) as file:
        for number, row in enumerate(table.to_pylist()):
            sample = samples.from_row(row)
            key = f"{first['shard']:05d}{number:06d}"
            entry = _append(file, key, members(sample, row["tokens"], layout))
            index.append({**entry, "key": key, **{name: row[name] for name in _INDEXED}})
        file.write(b"\0" * 1024)
    entries = pa.Table.from_pylist(index, schema=INDEX_SCHEMA)
    tables.write(entries, path.with_suffix(".index.parquet"))
    return {"index": entries.append_column("shard", pa.array([path.name] * len(index)))}


_INDEXED = ("id", "corpus", "task", "modality", "tokens")


def members(sample: Sample, num_tokens: int, layout: Layout) -> Members:
    """The files of one sample, `.json` first. Raises MediaError or ValueError naming the medium."""
    media: Members = []
    described = []
    for number, part in enumerate(visual_parts(sample)):
        found, about = _image(sample, part, layout) if part.kind == "image" else _clip(sample, part, layout)
        media += [(f"{number}.{suffix}", data) for suffix, data in found]
        described.append(about)
    document = {
        **dataclasses.asdict(sample),
        "tokens": {layout.preset: num_tokens},
        "shown": described,
        "shard_format": FORMAT_VERSION,
    }
    return [("json", json.dumps(document, ensure_ascii=False).encode()), *media]


def visual_parts(sample: Sample) -> list[Part]:
    """Image and video parts in order of appearance."""
    return [part for message in sample.messages for part in message.parts if part.kind != "text"]


def _image(sample: Sample, part: Part, layout: Layout) -> tuple[Members, dict[str, Any]]:
    item = sample.media[part.media[0]]
    if item.start is not None:
        return [("jpg", clips.span(layout.frames, item)[0])], {"kind": "image"}
    data = MediaStore(layout.store).read(item.key)
    header = open_image(data)
    plain = header.mode == "RGB" and not header.getexif() and getattr(header, "n_frames", 1) == 1
    if plain and max(header.size) <= (layout.max_side or max(header.size)) and header.format in {"PNG", "JPEG"}:
        return [("png" if header.format == "PNG" else "jpg", data)], {"kind": "image"}
    return [("jpg", encode_jpeg(shrink(decode_image(data), layout.max_side)))], {"kind": "image"}


def _clip(sample: Sample, part: Part, layout: Layout) -> tuple[Members, dict[str, Any]]:
    spans = [sample.media[index] for index in part.media]
    clip = clips.build(spans, layout.frames, fps=layout.fps, budget=visual_budget(layout.preset))
    about = {"kind": "video", **{k: v for k, v in dataclasses.asdict(clip).items() if k != "frames"}}
    return [(f"{index:03d}.jpg", frame) for index, frame in enumerate(clip.frames)], about


def _append(file: IO[bytes], key: str, found: Members) -> dict[str, int]:
    """Appends a sample's members to an open tar; returns its byte range and checksum."""
    block = io.BytesIO()
    for suffix, data in found:
        header = tarfile.TarInfo(f"{key}.{suffix}")
        header.size = len(data)
        block.write(header.tobuf(tarfile.USTAR_FORMAT))
        block.write(data + b"\0" * (-len(data) % 512))
    content = block.getvalue()
    offset = file.tell()
    file.write(content)
    return {"offset": offset, "size": len(content), "xxh3": xxhash.xxh3_64_intdigest(content)}


def parse(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The (suffix, bytes) members of one sample's byte range."""
    position = 0
    while position < len(content):
        header = content[position : position + 512]
        name = header[:100].rstrip(b"\0").decode()
        size = int(header[124:136].rstrip(b"\0 "), 8)
        yield name.partition(".")[2], content[position + 512 : position + 512 + size]
        position += 512 + size + (-size % 512)


def write_manifest(folder: Path, files: Sequence[Path], about: dict[str, Any]) -> dict[str, Any]:
    """`manifest.json`: the splits and their shards, with what the stream needs (preset, mixture)."""
    splits: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(files):
        rows = tables.num_rows(path.with_suffix(".index.parquet"))
        entry = {"file": path.name, "samples": rows, "bytes": path.stat().st_size}
        splits.setdefault(path.name.rpartition("-")[0], []).append(entry)
    manifest = {"format": FORMAT_VERSION, **about, "splits": splits}
    write_atomic(folder / "manifest.json", json.dumps(manifest, indent=1).encode())
    return manifest


def summary(folder: Path) -> dict[str, int]:
    """Shards, samples and bytes of all splits together."""
    manifest = json.loads((folder / "manifest.json").read_text())
    entries = [entry for split in manifest["splits"].values() for entry in split]
    sums = {name: sum(entry[name] for entry in entries) for name in ("samples", "bytes")}
    return {"count": len(entries), **sums}
