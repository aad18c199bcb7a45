"""Plain text files (also gzipped), cut into documents at headings and blank lines; no character is lost."""

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Sample, document
from data_engine.sources.common import (
    Quarantined,
    files,
    make_sample,
    open_binary,
    parse_options,
    path_of,
    quarantining,
)
from strict_yaml import Strict

# "3.2. Title", "Chapter 4. Title", "第 4 章 标题", "# Title" at the start of a line.
_HEADING = re.compile(r"(?:\d+(?:\.\d+)*\. |Chapter \d|Appendix [A-Z]|第 ?\d+ ?章|附录 ?[A-Z]|#+ )\S*")
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")


class TextOptions(Strict):
    """`max_chars`: the longest document, in characters."""

    max_chars: int = Field(default=2000, ge=1)


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """One unit per file."""
    parse_options(TextOptions, options, "text")
    return files(root, {".txt", ".md"})


@quarantining
def read(
    root: Path,
    unit: str,
    corpus: str,
    source: Source,
    store: MediaStore,  # noqa: ARG001 - readers share one signature
) -> Iterator[Sample | Quarantined]:
    """Documents of at most `max_chars` characters, in the order of the file."""
    options = parse_options(TextOptions, source.options, "text")
    try:
        with open_binary(path_of(root, unit)) as stream:
            text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield Quarantined(corpus, unit, "text", f"not UTF-8 at byte {error.start}: {error.reason}")
        return
    except (OSError, EOFError, zlib.error) as error:
        yield Quarantined(corpus, unit, "text", f"cannot be read: {error}")
        return
    if "\0" in text:
        yield Quarantined(corpus, unit, "text", f"NUL byte at character {text.index(chr(0))}")
        return
    if not text.strip():
        yield Quarantined(corpus, unit, "text", "empty file")
    for number, words in enumerate(split_documents(text, options.max_chars)):
        yield make_sample(corpus, source, [document(words)], origin=f"{unit}#{number}")


def split_documents(text: str, max_chars: int) -> Iterator[str]:
    """Whole paragraphs gathered up to `max_chars`; a heading starts anew once a document is half full.

    A paragraph longer than `max_chars` is cut at line ends, and a longer line where it must be.
    """
    gathered: list[str] = []
    size = 0
    for paragraph in _BLANK_LINES.split(text.strip("\r\n")):
        for piece in pieces(paragraph.rstrip(), max_chars):
            full = size + 2 + len(piece) > max_chars
            if gathered and (full or (2 * size >= max_chars and _HEADING.match(piece))):
                yield "\n\n".join(gathered)
                gathered, size = [], 0
            size += len(piece) + (2 if gathered else 0)
            gathered.append(piece)
    if gathered and size:
        yield "\n\n".join(gathered)


def pieces(paragraph: str, max_chars: int) -> Iterator[str]:
    """The paragraph itself if it fits, else runs of its lines that do."""
    while len(paragraph) > max_chars:
        at = paragraph.rfind("\n", 0, max_chars + 1)
        if at > 0:
            yield paragraph[:at]
            paragraph = paragraph[at + 1 :]
        else:
            yield paragraph[:max_chars]
            paragraph = paragraph[max_chars:]
    if paragraph:
        yield paragraph
