"""Pictures per CPU-second of every generator of drawn corpora, and samples per CPU-second of the makers.

    python benchmarks/synthesis.py [--num 40]

One process, one thread; fonts, photographs and texts are loaded by a first round that is not counted.
"""

import argparse
import importlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from data_engine import demo_corpora
from data_engine.makers.many_images import ManyImages
from data_engine.makers.rearrange import Rearrange
from data_engine.makers.traps import Traps
from data_engine.making import Made, Maker, Tools
from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Sample
from data_engine.sources import captions
from data_engine.sources.rendered_documents import KINDS
from data_engine.synthesis.character_matrix import READINGS
from data_engine.synthesis.layouts import LAYOUTS

GENERATORS: Mapping[str, tuple[str, ...]] = {
    "rendered_text": LAYOUTS,
    "rendered_documents": KINDS,
    "character_matrix": READINGS,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=40, help="pictures of each layout, kind or class")
    num = parser.parse_args().num
    table = Table("what", "made", "CPU s", "a CPU-second", title="synthesis, one thread")
    corpora = demo_corpora.default_cache()
    with tempfile.TemporaryDirectory() as scratch:
        store = MediaStore(Path(scratch) / "media")
        for form, names in GENERATORS.items():
            for name in names if form != "character_matrix" else [""]:
                wanted = dict.fromkeys([name] if name else names, num if name else max(1, num // 4))
                _generate(corpora / "writing", store, form, {"num": wanted})
                start = time.process_time()
                made = sum(1 for _ in _generate(corpora / "writing", store, form, {"num": wanted, "seed": 1}))
                _row(table, f"{form} {name}", made, time.process_time() - start)
        for what, made, seconds in _makers(corpora / "stamps", store):
            _row(table, what, made, seconds)
    Console().print(table)


def _generate(root: Path, store: MediaStore, form: str, options: dict[str, Any]) -> list[Sample]:
    reader = importlib.import_module(f"data_engine.sources.{form}")
    source = Source(format=form, path=".", modality="image", task="ocr", licence="", options=options)
    found = [item for unit in reader.units(root, options) for item in reader.read(root, unit, "bench", source, store)]
    return [item for item in found if isinstance(item, Sample)]


def _makers(root: Path, store: MediaStore) -> Iterator[tuple[str, int, float]]:
    options = {"languages": ["en", "zh_CN"]}
    source = Source(format="captions", path=".", modality="image", task="caption", licence="", options=options)
    found = [item for unit in captions.units(root, options) for item in captions.read(root, unit, "c", source, store)]
    samples = [item for item in found if isinstance(item, Sample)]
    tools = Tools(store.root)

    def run(rule: Maker, given: list[Sample]) -> tuple[list[Sample], float]:
        start = time.process_time()
        made = [item.sample for item in rule.make(given, tools) if isinstance(item, Made)]
        return made, time.process_time() - start

    traps, seconds = run(Traps(), samples)
    yield "traps", len(traps), seconds
    made, seconds = run(Rearrange(), [*samples, *traps])
    yield "rearrange", len(made), seconds
    made, seconds = run(ManyImages(), samples)
    yield "many_images (pictures)", sum(len(sample.media) for sample in made), seconds


def _row(table: Table, what: str, made: int, seconds: float) -> None:
    table.add_row(what, f"{made:,}", f"{seconds:.2f}", f"{made / max(seconds, 1e-9):,.1f}")


if __name__ == "__main__":
    main()
