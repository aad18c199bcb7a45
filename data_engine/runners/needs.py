"""What one worker of a step needs, told by the step: by this the Ray runner sizes a pool for each model.

Figures are the most that a worker was seen to hold (`benchmarks/ray_workers.py`), rounded up. They are no part of a
step's identity: where a worker runs changes no byte of what it writes.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Needs:
    """`models`: what a worker loads, the name of its pool; empty for general work. `memory`: bytes of one worker."""

    models: tuple[str, ...] = ()
    cpus: float = 1
    memory: int = 700 * MIB  # probing a five-minute film of 720 lines takes 630

    @property
    def name(self) -> str:
        return " and ".join(self.models) or "general work"

    def beside(self, other: "Needs") -> "Needs":
        """What a worker needs that does the work of both: models add up, general work comes with any of them."""
        if set(other.models) <= set(self.models):
            return self
        if not self.models:
            return other
        models = tuple(dict.fromkeys([*self.models, *other.models]))
        return Needs(models, max(self.cpus, other.cpus), self.memory + other.memory)


MEDIA = Needs()
OCR = Needs(("OCR",), memory=1600 * MIB)  # seen: 1577, pages of 3840 x 2160 full of text; 969 between them
SAFETY = Needs(("safety",), memory=700 * MIB)  # 654, eight pictures of 3840 x 2160; 392 between them
DETECTOR = Needs(("detector",), memory=600 * MIB)  # 487, both kinds
CHECKPOINT = 1024 * MIB  # beside the weights: 936 (MiniLM, 256 long texts), 552 (SigLIP base, batches of 32)


def checkpoint(folder: str) -> Needs:
    """A checkpoint folder loaded through transformers: torch, its weights, and what a batch takes."""
    path = Path(folder).expanduser()
    weights = sum(file.stat().st_size for file in path.rglob("*") if file.suffix in {".safetensors", ".bin"})
    return Needs((path.name,), memory=CHECKPOINT + weights)


def together(needs: Iterable[Needs]) -> Needs:
    """What a worker needs that does all of this."""
    return functools.reduce(Needs.beside, needs, MEDIA)
