"""Tables of questions as VLMEvalKit keeps its benchmarks: `.tsv`, one row per question (also gzipped).

Columns: `question`, `answer`, and where there are: `index`, `hint`, options `A`, `B`, ..., `image` (base64, a
list of them, or the `index` of the row that has the picture) or `image_path` (one or a list). Others are ignored.
"""

import ast
import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Media, Sample, assistant, user
from data_engine.sources import delimited
from data_engine.sources.common import (
    Quarantined,
    RecordError,
    clean_text,
    files,
    folder_of,
    image_part,
    make_sample,
    parse_options,
    path_of,
    put_image_bytes,
    put_image_file,
    quarantining,
)
from data_engine.sources.delimited import Cells
from strict_yaml import Strict

REFERENCE_CHARS = 64
"""An `image` cell no longer than this is another row's index, as in VLMEvalKit."""
CHOOSE = {"en": "Answer with the letter of the right option.", "zh": "请用正确选项的字母回答。"}
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


class TableOptions(Strict):
    """A table has no options."""


@dataclass(slots=True)
class _Pictures:
    """Where a table's pictures come from: its folder, and what earlier rows put into the store."""

    folder: Path
    store: MediaStore
    by_index: dict[str, list[str]] = field(default_factory=dict)


class _LaterError(Exception):
    """The row shows the picture of a row that is still to come."""


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """One unit per file: rows may show the pictures of other rows."""
    parse_options(TableOptions, options, "tables")
    return files(root, {".tsv"})


@quarantining
def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """One sample per row, in order; rows that show the picture of a later row come last."""
    pictures = _Pictures(folder_of(root), store)
    waiting: list[tuple[str, Cells]] = []
    for where, row in delimited.rows(path_of(root, unit), unit, [["question"], ["answer"]]):
        if isinstance(row, RecordError):
            yield row.at(corpus, where)
            continue
        try:
            yield _sample(row, where, pictures, corpus, source)
        except _LaterError:
            waiting.append((where, row))
        except RecordError as error:
            yield error.at(corpus, where)
    yield from _resolve(waiting, pictures, corpus, source)


def _resolve(
    waiting: Sequence[tuple[str, Cells]], pictures: _Pictures, corpus: str, source: Source
) -> Iterator[Sample | Quarantined]:
    """Rows that waited, as long as each round resolves some; the rest lead in a circle or to no row."""
    while waiting:
        left = []
        for where, row in waiting:
            try:
                yield _sample(row, where, pictures, corpus, source)
            except _LaterError:
                left.append((where, row))
            except RecordError as error:
                yield error.at(corpus, where)
        if len(left) == len(waiting):
            for where, row in left:
                reason = f"refers to row {row['image']!r}, which leads to no picture (absent, faulty or a circle)"
                yield Quarantined(corpus, where, "image", reason)
            return
        waiting = left


def _sample(row: Cells, where: str, pictures: _Pictures, corpus: str, source: Source) -> Sample:
    """Raises RecordError, or _LaterError."""
    index = row.get("index", "").strip()
    if index and index in pictures.by_index:
        raise RecordError("index", f"{index!r} is used twice")
    question, answer = _question(row), _answer(row)
    keys = _picture_keys(row, pictures)
    if index:
        pictures.by_index[index] = keys
    messages = (user(*(image_part(number) for number in range(len(keys))), question), assistant(answer))
    return make_sample(corpus, source, messages, [Media("image", key) for key in keys], origin=where)


def _question(row: Cells) -> str:
    """Hint, question, options and how to answer, a line each."""
    question = clean_text(row["question"], "question").strip()
    hint = [row["hint"].strip()] if row.get("hint", "").strip() else []
    options = _options(row)
    how = [CHOOSE["zh" if _CHINESE.search(question) else "en"]] if options else []
    lines = [*hint, question, *(f"{letter}. {text}" for letter, text in options.items()), *how]
    return clean_text("\n".join(lines), "question")


def _options(row: Cells) -> dict[str, str]:
    found = {letter: row[letter].strip() for letter in ascii_uppercase if row.get(letter, "").strip()}
    expected = ascii_uppercase[: len(found)]
    if gap := [letter for letter in expected if letter not in found]:
        raise RecordError(gap[0], f"empty, though the row has options {', '.join(found)}")
    return found


def _answer(row: Cells) -> str:
    answer, options = clean_text(row["answer"], "answer").strip(), _options(row)
    if len(options) == 1:
        raise RecordError("B", "empty: a choice needs two options")
    if options and answer not in options:
        raise RecordError("answer", f"{answer!r} is none of the options {', '.join(options)}")
    return answer


def _picture_keys(row: Cells, pictures: _Pictures) -> list[str]:
    cell = row.get("image", "").strip()
    if cell and len(cell) <= REFERENCE_CHARS:
        if cell not in pictures.by_index or not pictures.by_index[cell]:
            raise _LaterError
        return pictures.by_index[cell]
    if cell:
        return [put_image_bytes(_base64(item), pictures.store) for item in _list(cell, "image")]
    paths = _list(row.get("image_path", "").strip(), "image_path")
    return [put_image_file(path, pictures.folder, pictures.store) for path in paths]


def _list(cell: str, column: str) -> list[str]:
    """One item, or those of a Python list literal."""
    if not cell.startswith("["):
        return [cell] if cell else []
    try:
        items = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise RecordError(column, "begins with [ but is no list") from error
    if not isinstance(items, list) or not items or not all(isinstance(item, str) for item in items):
        raise RecordError(column, "must be a list of texts")
    return items


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RecordError("image", f"not base64: {error}") from error
