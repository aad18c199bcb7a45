"""Publishing curated samples: `DIR/release/<corpus>` holds the parts, `manifest.json` what they are.

What was routed elsewhere is in `DIR/queues/<route>` (see `data_engine.queues`), whatever the target of the recipe.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from data_engine import gates, queues, rights, tables
from data_engine.chain import Chain
from data_engine.curation import Curation
from data_engine.finish import publish
from data_engine.media import write_atomic
from data_engine.step import Counts, StepResult


def release(this: Curation, kept: Mapping[str, Chain]) -> StepResult:
    """A folder with each corpus's kept samples (linked, not copied), their numbers and checksums; then its name.

    A corpus that the gate sets aside is left out.
    """
    aside = gates.set_aside(this.run.done["gate"].folder)
    kept = {name: chain for name, chain in kept.items() if name not in aside}

    def build(folder: Path) -> Counts:
        manifest = {name: _corpus(chain.dedup.table("samples"), folder / name) for name, chain in kept.items()}
        parts = [part for chain in kept.values() for part in tables.parts(chain.dedup.table("samples"))]
        rights.write_attribution(parts, this.recipe.rights, folder / "ATTRIBUTION.md")
        write_atomic(folder / "manifest.json", json.dumps(manifest, indent=1).encode())
        return {
            "samples_kept": sum(chain.dedup.record["counts"]["samples_kept"] for chain in kept.values()),
            "corpora": len(manifest),
        }

    result = this.run.step(
        "release",
        config=[sorted(kept), this.recipe.rights.attribution],
        inputs=[this.run.done["gate"], *(chain.dedup for chain in kept.values())],
        code=["data_engine.release"],
        build=build,
    )
    publish(result.folder, this.run.out / "release")
    return result


def _corpus(samples: Path, link: Path) -> dict[str, object]:
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(samples, link.parent))
    files = tables.parts(samples)
    return {
        "samples": tables.count(samples),
        "parts": {file.name: xxhash.xxh3_64_hexdigest(file.read_bytes()) for file in files},
    }


def publish_queues(this: Curation, kept: Mapping[str, Chain]) -> None:
    """`DIR/queues/<route>/<corpus>-part-00000.parquet`, of the corpora that the gate did not set aside.

    An empty queue is a folder without parts; where no operator of the recipe routes, there are no queues.
    """
    routes = sorted({route for corpus in this.recipe.corpora for route, _ in queues.routing(corpus).values()})
    if not routes:
        (this.run.out / "queues").unlink(missing_ok=True)
        return
    aside = gates.set_aside(this.run.done["gate"].folder)
    kept = {name: chain for name, chain in kept.items() if name not in aside}

    def build(folder: Path) -> Counts:
        for route in routes:
            (folder / "queues" / route).mkdir(parents=True, exist_ok=True)
        for name, chain in kept.items():
            _fill_queues(chain.dedup.table("reroutes"), folder / "queues", name)
        return queues.counted(folder / "queues")

    result = this.run.step(
        "queues",
        config=[routes, sorted(kept)],
        inputs=[this.run.done["gate"], *(chain.dedup for chain in kept.values())],
        code=("data_engine.release",),
        build=build,
    )
    publish(result.table("queues"), this.run.out / "queues")


def _fill_queues(reroutes: Path, folder: Path, corpus: str) -> None:
    for part in tables.parts(reroutes):
        table = pq.read_table(part)
        for route in table["route"].unique().to_pylist():
            rows = table.filter(pc.equal(table["route"], route))
            tables.write(rows, folder / route / f"{corpus}-{part.name}")
