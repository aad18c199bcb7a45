"""A sample's bytes in a shard: ustar members one after the other, put together and taken apart without a copy.

Each member is a header of 512 bytes and its data, filled up to a multiple of 512 with zeros. The headers are those
that `tarfile` writes for a plain file of no owner at time 0, from a template: most of a small sample's cost was there.
"""

import struct
import tarfile
from collections.abc import Sequence

from typing_extensions import Buffer

SIZE = 512
END = b"\0" * (2 * SIZE)
"""What closes an archive."""

MAX_NAME = 100
MAX_BLOCK = 2**31 - 1
"""What the index can tell of a sample's bytes."""

Members = Sequence[tuple[str, Buffer]]

# A header: name (100 bytes), mode and owners (24), size (12), time (12), checksum (8), and the rest, always the same.
_TEMPLATE = tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT)
_MODE, _TIME, _REST = _TEMPLATE[100:124], _TEMPLATE[136:148], _TEMPLATE[156:]
_FIXED_SUM = sum(_MODE) + sum(_TIME) + sum(_REST) + 8 * ord(" ")  # the checksum counts itself as spaces
_FIELDS = struct.Struct("100s24x11s")
_SIZE_FIELD = struct.Struct("124x11s")


def header(name: str, size: int) -> bytes:
    """The header of a member. Raises ValueError for a name of more than 100 bytes, or 8 GiB."""
    encoded, octal = name.encode(), b"%011o\0" % size
    if len(encoded) > MAX_NAME or len(octal) > 12:
        raise ValueError(f"{name}: a name of {len(encoded)} bytes (at most 100), or a size of {size} (under 8 GiB)")
    total = _FIXED_SUM + sum(encoded) + sum(octal)
    return b"%b%b%b%b%06o\0 %b" % (encoded.ljust(100, b"\0"), _MODE, octal, _TIME, total, _REST)


def block(key: str, members: Members) -> bytes:
    """The bytes of a sample: its members (suffix, data), named `<key>.<suffix>`. Raises ValueError over 2 GiB."""
    pieces: list[Buffer] = []
    for suffix, data in members:
        size = memoryview(data).nbytes
        pieces += (header(f"{key}.{suffix}", size), data, bytes(-size % SIZE))
    content = b"".join(pieces)
    if len(content) > MAX_BLOCK:
        raise ValueError(f"{key}: a sample of {len(content):,} bytes; at most 2 GiB can be indexed")
    return content


def parse(content: Buffer) -> list[tuple[str, memoryview]]:
    """The members of a sample's byte range as (suffix, data), data being views into it."""
    view = memoryview(content)
    found, position, end = [], 0, view.nbytes
    while position < end:
        name, octal = _FIELDS.unpack_from(view, position)
        start = position + SIZE
        stop = start + int(octal, 8)
        found.append((name[name.index(b".") + 1 :].rstrip(b"\0").decode(), view[start:stop]))
        position = stop + (-stop % SIZE)
    return found


def media_views(content: Buffer) -> list[memoryview]:
    """The data of a sample's media in order, as views into its byte range; the JSON before them is passed over."""
    view = memoryview(content)
    found, end = [], view.nbytes
    position = SIZE + int(_SIZE_FIELD.unpack_from(view, 0)[0], 8)
    position += -position % SIZE
    while position < end:
        start = position + SIZE
        stop = start + int(_SIZE_FIELD.unpack_from(view, position)[0], 8)
        found.append(view[start:stop])
        position = stop + (-stop % SIZE)
    return found
