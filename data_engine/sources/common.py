"""What every reader shares: the result of a failed record, and paths that stay inside their folder.

A reader module has two functions:

- `units(root, options) -> list[str]`: a cheap, sorted listing of what can be read on its own (a file, a
  page, a range of lines); partitions of units are what the runners spread out.
- `read(root, unit, source, store) -> Iterator[Sample | Quarantined]`: the unit's samples, their media
  put into the store. A record that cannot be read is yielded as `Quarantined`, never raised.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record set aside: where it is (`file:line` or `file#part`), which field is wrong, and why."""

    corpus: str
    locator: str
    field: str
    reason: str


def inside(root: Path, relative: str) -> Path:
    """`root/relative`, refusing to leave `root` (absolute paths, `..`, links that climb out).

    Raises ValueError with the offending path.
    """
    path = (root / relative).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ValueError(f"path leaves the corpus folder: {relative!r}")
    return path
