"""Decontamination: samples that show what a benchmark asks are dropped, by picture, by words, or by both.

Words: the share of a benchmark text's word n-grams that one turn of a sample holds. Pictures: perceptual hashes of
the benchmark's pictures and of crops of them, searched exactly; with models also the cosine of embeddings
(`dedup.alike`). The rule for instruction data is that of the Keye-VL preview report (arXiv 2507.01949, appendix A: CLIP
cosine > 0.98 of the image and > 0.50 of the text): the picture matches, by hash or embedding, and the words do, by
n-grams or embedding; where `pictures: any`, as for pre-training, the picture alone is enough. What it finds of leaks
planted by itself, and of what is none, is measured on every run and left in recall.json (`dedup.planted`).
"""

import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from data_engine import image_measures, ingest, tables
from data_engine.curation import Curation
from data_engine.dedup import alike, matching, planted
from data_engine.dedup.hamming import near
from data_engine.dedup.rows import Drops, Part, Rows
from data_engine.describe import Turns, owners
from data_engine.media import MediaError, MediaStore, decode_image, write_atomic
from data_engine.models import embedding
from data_engine.recipe import Source
from data_engine.runners.needs import checkpoint, together
from data_engine.sample import Sample
from data_engine.sources.common import Quarantined, inside
from data_engine.words import count_words
from strict_yaml import RecipeError, Strict

Ints = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]
NONE = np.empty((0, 2), np.int64)
_FEWEST_WORDS = 3  # of a short text that is a leak where it is a whole turn (our choice)


class Decontaminate(Strict):
    """What must not be trained on, and how alike is too alike.

    `max_share`: of a benchmark text's n-grams in one turn; texts of fewer than `min_words` words count where they are
    a whole turn (of three words or more), or beside their picture. `pictures`: `with_words` needs
    `max_share_beside_picture` of the words too, `any` does not. `image_model` (a SigLIP or CLIP folder) and
    `text_model` (an encoder's, or the same) add embeddings to the rule.
    """

    benchmarks: list[Source] = Field(min_length=1)
    ngram: int = Field(default=5, ge=1)
    min_words: int = Field(default=8, ge=1)
    max_share: float = Field(default=0.5, gt=0, le=1)
    max_share_beside_picture: float = Field(default=0.5, gt=0, le=1)
    max_hamming: int = Field(default=8, ge=0, le=15)
    pictures: Literal["with_words", "any"] = "with_words"
    image_model: str | None = None
    min_image_cosine: float = Field(default=0.98, gt=0, lt=1)
    text_model: str | None = None
    min_text_cosine: float = Field(default=0.5, gt=0, lt=1)
    trusted: bool = False

    @model_validator(mode="after")
    def _can_embed(self) -> Self:
        if self.image_model is not None:
            embedding.require(self.image_model, "image", self.trusted)
        if self.text_model is not None:
            embedding.require(self.text_model, "text", self.trusted)
        return self

    def reads(self, root: Path) -> list[str]:
        """What else than the rows the pass depends on, as hashes: the benchmarks' files and the models'."""
        models = [model for model in (self.image_model, self.text_model) if model is not None]
        return [ingest.fingerprint_of(self.benchmarks, root), *map(embedding.fingerprint, models)]

    def without_models(self) -> Self:
        """The rule by hashes and n-grams alone."""
        return self.model_copy(update={"image_model": None, "text_model": None})


@dataclass(frozen=True, slots=True)
class Item:
    """A benchmark's sample: where it is from, its turns, and its pictures."""

    origin: str
    texts: tuple[str, ...]
    pictures: tuple[Pixels, ...]


@dataclass(frozen=True, slots=True)
class Benchmarks:
    """All benchmark texts and pictures, with the item each is of; vectors have no rows where there is no model."""

    origins: tuple[str, ...]
    texts: tuple[str, ...]
    text_item: Ints
    words: matching.TextIndex
    short: npt.NDArray[np.uint64]  # hashes of texts of fewer than `min_words` words, 0 for all others
    hashes: npt.NDArray[np.uint64]
    hash_item: Ints
    has_picture: npt.NDArray[np.bool_]
    text_vectors: embedding.Vectors
    picture_vectors: embedding.Vectors
    picture_item: Ints


def read_items(config: Decontaminate, root: Path, store: Path) -> Iterator[Item | Quarantined]:
    """The benchmarks' samples, and what could not be read. An unreadable picture is left out: its words count."""
    for number, source in enumerate(config.benchmarks):
        reader, path = ingest.reader(source), inside(root, source.path)
        for unit in reader.units(path, source.options):
            for found in reader.read(path, unit, f"benchmark-{number}", source, MediaStore(store)):
                if not isinstance(found, Sample):
                    yield found
                else:
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
    """The index of texts and of picture hashes, those of its crops among them, and the vectors of both."""
    texts = [(text, number) for number, item in enumerate(items) for text in item.texts]
    pictures = [(shown, number) for number, item in enumerate(items) for shown in item.pictures]
    hashed = [(value, number) for shown, number in pictures for value in views(shown)]
    return Benchmarks(
        origins=tuple(item.origin for item in items),
        texts=tuple(text for text, _ in texts),
        text_item=np.array([number for _, number in texts], np.int64),
        words=matching.index([text for text, _ in texts], config.ngram, config.min_words),
        short=_short([text for text, _ in texts], config),
        hashes=np.array([value for value, _ in hashed], np.uint64),
        hash_item=np.array([number for _, number in hashed], np.int64),
        has_picture=np.array([bool(item.pictures) for item in items], bool),
        text_vectors=alike.texts(config.text_model, [text for text, _ in texts]),
        picture_vectors=alike.pictures(config.image_model, [shown for shown, _ in pictures]),
        picture_item=np.array([number for _, number in pictures], np.int64),
    )


def _short(texts: list[str], config: Decontaminate) -> npt.NDArray[np.uint64]:
    column = pa.array(texts, pa.string())
    count = count_words(column)
    return np.where((count >= _FEWEST_WORDS) & (count < config.min_words), matching.whole(column), 0).astype(np.uint64)


def only(known: Benchmarks, items: npt.NDArray[np.bool_], config: Decontaminate) -> Benchmarks:
    """What a benchmark of some of its items would be, nothing hashed or embedded anew."""
    text, hashed, shown = items[known.text_item], items[known.hash_item], items[known.picture_item]
    texts = tuple(words for words, chosen in zip(known.texts, text, strict=True) if chosen)
    return dataclasses.replace(
        known,
        texts=texts,
        text_item=known.text_item[text],
        words=matching.index(list(texts), config.ngram, config.min_words),
        short=known.short[text],
        hashes=known.hashes[hashed],
        hash_item=known.hash_item[hashed],
        text_vectors=known.text_vectors[text] if config.text_model else known.text_vectors,
        picture_vectors=known.picture_vectors[shown] if config.image_model else known.picture_vectors,
        picture_item=known.picture_item[shown],
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
    items = _readable(config, Path(this.recipe.root), folder)
    known = compile_items(items, config)
    units = pa.table({"part": pa.array(range(sum(part.earlier for part in rows.parts), len(rows.parts)), pa.int32())})
    work = functools.partial(match_partition, parts=rows.parts, known=known, config=config, store=this.store)
    models = config.image_model or config.text_model
    needs = together(checkpoint(model) for model in (config.image_model, config.text_model) if model)
    this.partitions("decontaminate", work, units, 1, folder / "matches", "ray" if models else "spark", needs)
    write_atomic(folder / "recall.json", json.dumps(measured(items, known, config), indent=1).encode())
    row, reason = [np.empty(0, np.int64)], []
    for part, file in zip(units["part"].to_pylist(), tables.parts(folder / "matches" / "leaks"), strict=False):
        found = pq.read_table(file)
        alive = rows.alive[found["row"].to_numpy() + rows.start[part]]
        row.append(found["row"].to_numpy()[alive] + rows.start[part])
        reason += found["reason"].filter(pa.array(alive)).to_pylist()
    numbers = np.concatenate(row)
    return Drops(numbers, np.full(len(numbers), -1), pa.array(reason, pa.string()))


def _readable(config: Decontaminate, root: Path, folder: Path) -> list[Item]:
    """The benchmarks' samples; what could not be read becomes the table `unread`. Raises RecipeError if all of it."""
    found = list(read_items(config, root, folder / "benchmark_media"))
    unread = [dataclasses.asdict(item) for item in found if isinstance(item, Quarantined)]
    items = [item for item in found if isinstance(item, Item)]
    if not items:
        why = f"; the first: {unread[0]['locator']}: {unread[0]['reason']}" if unread else ""
        names = ", ".join(source.path for source in config.benchmarks)
        raise RecipeError(f"decontaminate.benchmarks: none of {len(unread)} records of {names} could be read{why}")
    if unread:
        tables.write(pa.Table.from_pylist(unread), folder / "unread" / "part-00000.parquet")
    return items


def measured(items: Sequence[Item], known: Benchmarks, config: Decontaminate) -> dict[str, Any]:
    """Per planted edit the share that is found, and of what is no leak the share that would be dropped: every second
    item held against the others. With models, both also without them."""
    half = only(known, np.arange(len(items)) % 2 == 0, config)
    result: dict[str, Any] = {}
    for name, rule in (("", config), ("_without_models", config.without_models())):
        if name and rule == config:
            break
        for edit, found in planted.recall(items, functools.partial(catch, known=known, config=rule), config.min_words):
            result.setdefault(edit, {"planted": found.planted})["recall" + name] = found.share
            result[edit].update({key + name: share for key, share in found.by_language.items()})
        other = planted.unrelated(items[1::2], functools.partial(catch, known=half, config=rule))
        if other.planted:
            result.setdefault("unrelated", {"planted": other.planted})["dropped" + name] = other.share
            result["unrelated"].update({key + name: share for key, share in other.by_language.items()})
    return result


def catch(
    messages: pa.ChunkedArray, pictures: Sequence[Sequence[Pixels]], *, known: Benchmarks, config: Decontaminate
) -> dict[int, str]:
    """`leaks` of samples whose pictures are at hand."""
    hashes = [[image_measures.phash(shown) for shown in row] for row in pictures]
    row = np.repeat(np.arange(len(pictures)), [len(shown) for shown in pictures])
    vectors = alike.pictures(config.image_model, [shown for row in pictures for shown in row])
    near = alike.near(row, vectors, known.picture_vectors, known.picture_item, config.min_image_cosine)
    return leaks(messages, pa.chunked_array([pa.array(hashes, pa.list_(pa.uint64()))]), known, config, near)


def match_partition(
    units: pa.Table, *, parts: Sequence[Part], known: Benchmarks, config: Decontaminate, store: Path
) -> dict[str, pa.Table]:
    """The leaks of one part: row and reason, in the order of the rows."""
    part = parts[units["part"][0].as_py()]
    messages = pq.read_table(part.samples, columns=["messages"])["messages"]
    hashes = pq.read_table(part.measures, columns=["media_phash"])["media_phash"]
    shown = NONE
    if config.image_model and len(known.picture_vectors):
        known_pictures = known.picture_vectors, known.picture_item
        shown = alike.near_in_part(part, store, config.image_model, *known_pictures, config.min_image_cosine)
    found = leaks(messages, hashes, known, config, shown)
    schema = pa.schema([("row", pa.int64()), ("reason", pa.string())])
    return {"leaks": pa.table([sorted(found), [found[row] for row in sorted(found)]], schema=schema)}


def leaks(
    messages: pa.ChunkedArray,
    hashes: pa.ChunkedArray,
    known: Benchmarks,
    config: Decontaminate,
    near_pictures: Ints = NONE,
) -> dict[int, str]:
    """Row to reason, of the rows that show what a benchmark asks.

    `near_pictures` [N, 2] are (row, item) whose pictures' embeddings are near.
    """
    turns = Turns(messages)
    found = _by_picture(turns, [*_by_hash(hashes, known, config), *map(tuple, near_pictures.tolist())], known, config)
    text, share = matching.best_match(turns.text, known.words)
    held = (text >= 0) & (share >= config.max_share)
    for turn in np.flatnonzero(held):
        item = known.text_item[text[turn]]
        if not known.has_picture[item]:
            found.setdefault(int(turns.row[turn]), f"holds {share[turn]:.0%} of {known.origins[item]}")
    for place, short in _short_turns(turns, known):
        if not known.has_picture[short]:
            found.setdefault(int(turns.row[place]), f"is {known.origins[short]}")
    return found


def _short_turns(turns: Turns, known: Benchmarks) -> list[tuple[int, int]]:
    """(turn, item) of turns that are a benchmark's short text, word for word."""
    place = np.flatnonzero(known.short)
    order = place[np.argsort(known.short[place], kind="stable")]
    if not len(order):
        return []
    hashes, values = matching.whole(turns.text), known.short[order]
    at = np.searchsorted(values, hashes).clip(max=len(values) - 1)
    turn = np.flatnonzero(values[at] == hashes)
    return list(zip(turn.tolist(), known.text_item[order[at[turn]]].tolist(), strict=True))


def _by_hash(hashes: pa.ChunkedArray, known: Benchmarks, config: Decontaminate) -> list[tuple[int, int]]:
    """(row, item) of pictures with a hash near one of a benchmark's picture."""
    flat = hashes.combine_chunks().flatten()
    valid = pc.is_valid(flat).to_numpy(zero_copy_only=False)
    row = owners(hashes)[valid]
    pairs = near(flat.filter(pa.array(valid)).to_numpy().astype(np.uint64), known.hashes, config.max_hamming)
    return list(zip(row[pairs[:, 0]].tolist(), known.hash_item[pairs[:, 1]].tolist(), strict=True))


def _by_picture(
    turns: Turns, shown: Sequence[tuple[int, int]], known: Benchmarks, config: Decontaminate
) -> dict[int, str]:
    """Of the (row, item) that show a benchmark's picture those that (unless that is enough) hold its words."""
    found: dict[int, str] = {}
    unlike: list[tuple[int, int]] = []
    for number, item in dict.fromkeys(shown):
        if (
            config.pictures == "any"
            or shared_words(turns, number, item, known, config) > config.max_share_beside_picture
        ):
            found.setdefault(number, f"shows the picture of {known.origins[item]}")
        else:
            unlike.append((number, item))
    if config.text_model and unlike:
        for number, item in _near_words(turns, unlike, known, config):
            found.setdefault(number, f"shows the picture of {known.origins[item]} beside words of one meaning")
    return found


def _near_words(
    turns: Turns, shown: Sequence[tuple[int, int]], known: Benchmarks, config: Decontaminate
) -> list[tuple[int, int]]:
    """Of the (row, item) those with a turn whose vector is near that of one of the item's texts."""
    rows = np.unique([row for row, _ in shown])
    of_row = np.flatnonzero(np.isin(turns.row, rows) & (pc.binary_length(turns.text).to_numpy() > 0))
    vectors = alike.texts(config.text_model, turns.text.take(pa.array(of_row)).to_pylist())
    near_words = []
    for row, item in shown:
        cosine = vectors[turns.row[of_row] == row] @ known.text_vectors[known.text_item == item].T
        if cosine.max(initial=-1.0) > config.min_text_cosine:
            near_words.append((row, item))
    return near_words


def shared_words(turns: Turns, row: int, item: int, known: Benchmarks, config: Decontaminate) -> float:
    """The largest share of one of the item's texts in one of the row's turns, whatever its length."""
    texts = [known.texts[place] for place in np.flatnonzero(known.text_item == item)]
    low, high = np.searchsorted(turns.row, [row, row + 1])
    _, share = matching.best_match(turns.text[low:high], matching.index(texts, min(config.ngram, 3)))
    return float(share.max(initial=0.0))
