"""Documents of text and pictures in reading order, cut from a page or a file at its headings."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from data_engine.media import MediaError, MediaStore, open_image
from data_engine.recipe import Source
from data_engine.sample import Media, Message, Part, Sample
from data_engine.sources.common import RecordError, make_sample, put_image_bytes
from data_engine.sources.text import pieces


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that stands in the text: its key in the store."""

    key: str


Atoms = tuple[str | Picture, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, a heading, or a figure with its caption; never divided unless it is plain text."""

    atoms: Atoms
    heading: bool = False

    @property
    def chars(self) -> int:
        return sum(len(atom) for atom in self.atoms if isinstance(atom, str))


def documents(blocks: Iterable[Block], max_chars: int) -> Iterator[list[Block]]:
    """Blocks gathered up to `max_chars` characters; a heading starts anew once a document is half full.

    A paragraph that is longer is cut at line ends or where it must be; a block with pictures is kept whole.
    """
    gathered: list[Block] = []
    size = 0
    for block in _fitting(blocks, max_chars):
        full = size + block.chars > max_chars
        if gathered and (full or (block.heading and 2 * size >= max_chars)):
            # A heading stays with what it heads.
            held = [gathered.pop()] if gathered[-1].heading and not block.heading and len(gathered) > 1 else []
            yield gathered
            gathered, size = held, sum(item.chars for item in held)
        gathered.append(block)
        size += block.chars
    if gathered:
        yield gathered


def _fitting(blocks: Iterable[Block], max_chars: int) -> Iterator[Block]:
    for block in blocks:
        if block.chars > max_chars and all(isinstance(atom, str) for atom in block.atoms):
            words = "".join(str(atom) for atom in block.atoms)
            yield from (Block((piece,)) for piece in pieces(words, max_chars))
        else:
            yield block


def document_sample(blocks: Sequence[Block], corpus: str, source: Source, origin: str, group: str) -> Sample:
    """The blocks as one `document`, two line ends between them; without any picture its modality is text."""
    parts, keys = parts_of(blocks)
    own = source if keys else source.model_copy(update={"modality": "text"})
    media = [Media("image", key) for key in keys]
    return make_sample(corpus, own, [Message("document", parts)], media, origin=origin, group=group)


def parts_of(blocks: Sequence[Block]) -> tuple[tuple[Part, ...], list[str]]:
    """Text and image parts in order, and the distinct keys that these show."""
    keys: dict[str, int] = {}
    parts: list[Part] = []
    text = ""
    for number, block in enumerate(blocks):
        text += "\n\n" if number else ""
        for atom in block.atoms:
            if isinstance(atom, str):
                text += atom
                continue
            if text.strip():
                parts.append(Part("text", text))
            text = ""
            parts.append(Part("image", media=(keys.setdefault(atom.key, len(keys)),)))
    if text.strip():
        parts.append(Part("text", text))
    return tuple(parts), list(keys)


def has_content(blocks: Sequence[Block]) -> bool:
    return any(isinstance(atom, Picture) or atom.strip() for block in blocks for atom in block.atoms)


def put_picture(data: bytes, store: MediaStore, min_side: int) -> Picture:
    """Stores an image unless it is an ornament. Raises RecordError (field `image`)."""
    try:
        with open_image(data) as image:
            width, height = image.size
    except MediaError as error:
        raise RecordError("image", str(error)) from error
    if min(width, height) < min_side:
        raise RecordError("image", f"{width} x {height} pixels: smaller than {min_side}, an ornament")
    return Picture(put_image_bytes(data, store))
