"""What looks at all rows of a corpus at once: deduplication, decontamination and balance, one step each, in order."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine import balance, catalog, tables
from data_engine.curation import Curation
from data_engine.dedup import decontaminate, exact, minhash, perceptual, semantic, video
from data_engine.dedup.rows import Drops, Part, Rows
from data_engine.recipe import Corpus
from data_engine.step import Counts, StepResult

# The recipe's names for passes: the config and `find(rows, config, run, folder) -> Drops`.
PASSES: Mapping[str, Any] = {
    "exact": (exact.Exact, exact.find),
    "perceptual": (perceptual.Perceptual, perceptual.find),
    "video": (video.Video, video.find),
    "minhash": (minhash.MinHash, minhash.find),
    "semantic": (semantic.Semantic, semantic.find),
    "balance": (balance.Balance, balance.find),
    "decontaminate": (decontaminate.Decontaminate, decontaminate.find),
}
DROPS_SCHEMA = pa.schema([("row", pa.int64()), ("keeper", pa.string()), ("reason", pa.string())])


def run_passes(
    this: Curation, corpus: Corpus, found: StepResult, measured: StepResult, decided: StepResult
) -> list[StepResult]:
    """Every pass of the recipe over what is still kept; each leaves `drops`, part for part, with row numbers."""
    done: list[StepResult] = []
    parts = [*earlier_parts(this, corpus), *own_parts(found, measured)]
    for spec in corpus.dedup:
        for name, fields in spec.items():
            done.append(_run_pass(this, corpus, name, fields, parts, decided, done))
    return done


def own_parts(found: StepResult, measured: StepResult) -> list[Part]:
    pairs = zip(tables.parts(found.table("samples")), tables.parts(measured.table("measures")), strict=True)
    return [Part(samples, measures) for samples, measures in pairs]


def earlier_parts(this: Curation, corpus: Corpus) -> list[Part]:
    """The kept rows of the earlier releases that the recipe names, in its order."""
    found = []
    for release in corpus.against:
        steps = catalog.steps(Path(this.recipe.root, release))
        folder, signed = steps[f"dedup.{corpus.corpus}"], steps.get(f"minhash.{corpus.corpus}")
        pairs = zip(tables.parts(folder / "samples"), tables.parts(folder / "measures"), strict=True)
        found += [Part(samples, measures, earlier=True, signed=signed) for samples, measures in pairs]
    return found


def _run_pass(
    this: Curation,
    corpus: Corpus,
    name: str,
    fields: Mapping[str, Any],
    parts: Sequence[Part],
    decided: StepResult,
    before: Sequence[StepResult],
) -> StepResult:
    model, find = PASSES[name]
    settings = model(**fields)
    reads = settings.reads(Path(this.recipe.root)) if hasattr(settings, "reads") else []

    def build(folder: Path) -> Counts:
        rows = Rows(parts, _alive(parts, decided, before))
        drops = find(rows, settings, this, folder)
        _write(rows, drops, folder)
        counts = {"samples_in": int(rows.alive[rows.first_new :].sum())}
        counts["samples_dropped"] = tables.count(folder / "drops")
        return counts | ({"unread": unread} if (unread := tables.count(folder / "unread")) else {})

    return this.run.step(
        f"{name}.{corpus.corpus}",
        config=[fields, list(dict.fromkeys(part.samples.parents[1].name for part in parts if part.earlier))],
        inputs=[decided, *before, *reads],
        code=(find.__module__,),
        build=build,
    )


def _alive(parts: Sequence[Part], decided: StepResult, before: Sequence[StepResult]) -> npt.NDArray[np.bool_]:
    """Which rows are kept so far; those of earlier releases all are."""
    flags = [np.ones(tables.num_rows(part.samples), bool) for part in parts if part.earlier]
    for index, file in enumerate(tables.parts(decided.table("verdicts"))):
        kept = pc.equal(pq.read_table(file, columns=["status"])["status"], "kept").to_numpy().copy()
        for step in before:
            kept[read_drops(step, index)["row"].to_numpy()] = False
        flags.append(kept)
    return np.concatenate(flags) if flags else np.empty(0, bool)


def read_drops(step: StepResult, index: int) -> pa.Table:
    """What a pass drops of one part, rows numbered within it."""
    return pq.read_table(tables.parts(step.table("drops"))[index])


def _write(rows: Rows, drops: Drops, folder: Path) -> None:
    """One table of drops per part of this run; what an earlier release holds is never dropped."""
    keeper = pa.nulls(len(drops.row), pa.string())
    twins = drops.keeper >= 0
    if twins.any():
        place = np.where(twins, np.cumsum(twins) - 1, -1)
        keeper = rows.ids(drops.keeper[twins]).take(pa.array(place, mask=place < 0))
    reason = pc.coalesce(drops.reason, pc.binary_join_element_wise("duplicate of ", keeper, ""))
    first = sum(part.earlier for part in rows.parts)
    for index in range(first, len(rows.parts)):
        low, high = np.searchsorted(drops.row, rows.start[index : index + 2])
        chosen = slice(int(low), int(high))
        columns = [pa.array(drops.row[chosen] - rows.start[index]), keeper[chosen], reason[chosen]]
        tables.write(pa.table(columns, schema=DROPS_SCHEMA), folder / "drops" / f"part-{index - first:05d}.parquet")
