"""One package of the demo's corpora, as the manifests list them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Item:
    """One package: where it comes from, what it must hash to, its rights, and the paths it fills."""

    name: str
    client: Literal["apt", "pip"]
    package: str
    version: str
    file: str
    sha256: str
    bytes: int
    licence: str
    attribution: str
    holds: str
    paths: tuple[str, ...]
    unpack: Callable[[Path, Path], None]
