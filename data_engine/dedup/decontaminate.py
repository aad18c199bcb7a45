"""Decontamination: samples that show what a benchmark asks are dropped, by picture, by words, or by both.

Words: the share of a benchmark text's word n-grams that one turn of a sample holds. Pictures: perceptual hashes of
the benchmark's pictures and of crops of them, searched exactly. The rule for instruction data is that of the
Keye-VL preview report (arXiv 2507.01949, appendix A): the picture matches and more than half of the words do; where
`pictures: any`, as for pre-training, the picture alone is enough. What it finds of leaks planted by itself (crop,
resize, re-encoding, edited words) is measured on every run and left in recall.json.
"""

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from data_engine import image_measures, ingest, tables
from data_engine.curation import Curation
from data_engine.dedup import matching, planted
from data_engine.dedup.hamming import near
from data_engine.dedup.rows import Drops, Part, Rows
from data_engine.describe import Turns, owners
from data_engine.media import MediaError, MediaStore, decode_image, write_atomic
from data_engine.recipe import Source
from data_engine.sample import Sample
from data_engine.sources.common import inside
from strict_yaml import Strict

Ints = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]


class Decontaminate(Strict):
    """What must not be trained on, and how alike is too alike.

    `max_share`: of a benchmark text's n-grams in one turn; texts of fewer than `min_words` words only count beside
    their picture. `pictures`: `with_words` needs `max_share_beside_picture` of the words too, `any` does not.
    """

    benchmarks: list[Source] = Field(min_length=1)
    ngram: int = Field(default=5, ge=1)
    min_words: int = Field(default=8, ge=1)
    max_share: float = Field(default=0.7, gt=0, le=1)
    max_share_beside_picture: float = Field(default=0.5, gt=0, le=1)
    max_hamming: int = Field(default=8, ge=0, le=15)
    pictures: Literal["with_words", "any"] = "with_words"


@dataclass(frozen=True, slots=True)
class Item:
    """A benchmark's sample: where it is from, its turns, and its pictures."""

    origin: str
    texts: tuple[str, ...]
    pictures: tuple[Pixels, ...]


@dataclass(frozen=True, slots=True)
class Benchmarks:
    """All benchmark texts and picture hashes, with the item each is of."""

    origins: tuple[str, ...]
    texts: tuple[str, ...]
    text_item: Ints
    words: matching.TextIndex
    hashes: npt.NDArray[np.uint64]
    hash_item: Ints
    has_picture: npt.NDArray[np.bool_]


def read_items(config: Decontaminate, root: Path, store: Path) -> Iterator[Item]:
    """The benchmarks' samples. A picture that cannot be read is left out: its words still count."""
    for number, source in enumerate(config.benchmarks):
        reader, path = ingest.reader(source), inside(root, source.path)
        for unit in reader.units(path, source.options):
            for found in reader.read(path, unit, f"benchmark-{number}", source, MediaStore(store)):
                if isinstance(found, Sample):
                    texts = tuple(message.text for message in found.messages if message.text.strip())
                    keys = [item.key for item in found.media if item.kind == "image"]
                    pictures = tuple(_pictures(keys, MediaStore(store)))
                    yield Item(f"{source.path}:{found.origin}", texts, pictures)


def _pictures(keys: Sequence[str], store: MediaStore) -> Iterator[Pixels]:
    for key in keys:
        try:
            yield decode_image(store.read(key))
        except MediaError:
            continue


def compile_items(items: Sequence[Item], config: Decontaminate) -> Benchmarks:
    """The index of texts and of picture hashes, those of its crops among them."""
    texts = [(text, number) for number, item in enumerate(items) for text in item.texts]
    hashed = [(value, number) for number, item in enumerate(items) for shown in item.pictures for value in views(shown)]
    return Benchmarks(
        origins=tuple(item.origin for item in items),
        texts=tuple(text for text, _ in texts),
        text_item=np.array([number for _, number in texts], np.int64),
        words=matching.index([text for text, _ in texts], config.ngram, config.min_words),
        hashes=np.array([value for value, _ in hashed], np.uint64),
        hash_item=np.array([number for _, number in hashed], np.int64),
        has_picture=np.array([bool(item.pictures) for item in items], bool),
    )


def views(pixels: Pixels) -> list[int]:
    """Perceptual hashes of a picture and of what is left of it when its borders are cut: a crop's hash is far
    from the whole picture's, so the likely crops are hashed too (nine places at 90 % and at 80 % of each side)."""
    grey = image_measures.to_grey(pixels)
    height, width = grey.shape
    found = [image_measures.phash(grey)]
    for share in (0.9, 0.8):
        h, w = max(1, round(height * share)), max(1, round(width * share))
        for top in (0, (height - h) // 2, height - h):
            for left in (0, (width - w) // 2, width - w):
                found.append(image_measures.phash(grey[top : top + h, left : left + w]))
    return found


def find(rows: Rows, config: Decontaminate, this: Curation, folder: Path) -> Drops:
    """Rows that show what a benchmark asks; the reason names the benchmark's sample."""
    items = list(read_items(config, Path(this.recipe.root), folder / "benchmark_media"))
    known = compile_items(items, config)
    units = pa.table({"part": pa.array(range(sum(part.earlier for part in rows.parts), len(rows.parts)), pa.int32())})
    work = functools.partial(match_partition, parts=rows.parts, known=known, config=config)
    this.partitions("decontaminate", work, units, 1, folder / "matches", "spark")
    catch = functools.partial(leaks, known=known, config=config)
    write_atomic(folder / "recall.json", json.dumps(planted.recall(items, catch, config.min_words), indent=1).encode())
    row, reason = [np.empty(0, np.int64)], []
    for part, file in zip(units["part"].to_pylist(), tables.parts(folder / "matches" / "leaks"), strict=False):
        found = pq.read_table(file)
        alive = rows.alive[found["row"].to_numpy() + rows.start[part]]
        row.append(found["row"].to_numpy()[alive] + rows.start[part])
        reason += found["reason"].filter(pa.array(alive)).to_pylist()
    numbers = np.concatenate(row)
    return Drops(numbers, np.full(len(numbers), -1), pa.array(reason, pa.string()))


def match_partition(
    units: pa.Table, *, parts: Sequence[Part], known: Benchmarks, config: Decontaminate
) -> dict[str, pa.Table]:
    """The leaks of one part: row and reason, in the order of the rows."""
    part = parts[units["part"][0].as_py()]
    messages = pq.read_table(part.samples, columns=["messages"])["messages"]
    hashes = pq.read_table(part.measures, columns=["media_phash"])["media_phash"]
    found = leaks(messages, hashes, known, config)
    schema = pa.schema([("row", pa.int64()), ("reason", pa.string())])
    return {"leaks": pa.table([sorted(found), [found[row] for row in sorted(found)]], schema=schema)}


def leaks(
    messages: pa.ChunkedArray, hashes: pa.ChunkedArray, known: Benchmarks, config: Decontaminate
) -> dict[int, str]:
    """Row to reason, of the rows that show what a benchmark asks."""
    turns = Turns(messages)
    found = _by_picture(turns, hashes, known, config)
    text, share = matching.best_match(turns.text, known.words)
    held = (text >= 0) & (share >= config.max_share)
    for turn in np.flatnonzero(held):
        item = known.text_item[text[turn]]
        if not known.has_picture[item]:
            found.setdefault(int(turns.row[turn]), f"holds {share[turn]:.0%} of {known.origins[item]}")
    return found


def _by_picture(turns: Turns, hashes: pa.ChunkedArray, known: Benchmarks, config: Decontaminate) -> dict[int, str]:
    """Rows that show a benchmark's picture, and (unless that is enough) hold its words."""
    flat = hashes.combine_chunks().flatten()
    valid = pc.is_valid(flat).to_numpy(zero_copy_only=False)
    row = owners(hashes)[valid]
    pairs = near(flat.filter(pa.array(valid)).to_numpy().astype(np.uint64), known.hashes, config.max_hamming)
    seen = dict.fromkeys(zip(row[pairs[:, 0]].tolist(), known.hash_item[pairs[:, 1]].tolist(), strict=True))
    found: dict[int, str] = {}
    for number, item in seen:
        share = 1.0 if config.pictures == "any" else shared_words(turns, number, item, known, config)
        if share > config.max_share_beside_picture or config.pictures == "any":
            found.setdefault(number, f"shows the picture of {known.origins[item]}")
    return found


def shared_words(turns: Turns, row: int, item: int, known: Benchmarks, config: Decontaminate) -> float:
    """The largest share of one of the item's texts in one of the row's turns, whatever its length."""
    texts = [known.texts[place] for place in np.flatnonzero(known.text_item == item)]
    low, high = np.searchsorted(turns.row, [row, row + 1])
    _, share = matching.best_match(turns.text[low:high], matching.index(texts, min(config.ngram, 3)))
    return float(share.max(initial=0.0))
