"""The steps over all corpora: tokenizer, token counts, the gate, the mixing plan and the shards."""

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_engine import catalog, gates, metrics, mix, rights, shard_target, shards, tables, tokens
from data_engine.chain import Chain
from data_engine.curation import Curation, row_counts
from data_engine.making import steps_of as making_steps
from data_engine.recipe import Corpus, Recipe
from data_engine.runners import partition
from data_engine.step import Counts, StepResult
from strict_yaml import RecipeError


def tokenizer_folder(this: Curation, chains: Sequence[Chain]) -> Path:
    """The recipe's tokenizer folder, or one trained on the kept text where the recipe names none."""
    if this.recipe.tokenizer is not None:
        return Path(this.recipe.root, this.recipe.tokenizer)

    def build(folder: Path) -> Counts:
        from model.tokenizer import train_bpe

        found = [table for chain in chains for table in [tables.read(chain.dedup.table("samples"))]]
        texts = sorted({text for table in found for text in _texts(table)})
        train_bpe(texts, 8192, folder / "tokenizer")
        return {"texts": len(texts), "characters": sum(map(len, texts))}

    result = this.run.step(
        "tokenizer",
        config={"vocab_size": 8192},
        inputs=[chain.dedup for chain in chains],
        code=("model.tokenizer",),
        build=build,
    )
    publish(result.table("tokenizer"), this.run.out / "tokenizer" / this.recipe.preset)
    return result.table("tokenizer")


def _texts(table: pa.Table) -> set[str]:
    return {part["text"] for row in table["messages"].to_pylist() for m in row for part in m["parts"] if part["text"]}


def count_tokens(this: Curation, name: str, chain: Chain, tokenizer: Path) -> StepResult:
    counter = tokens.Counter(
        preset=this.recipe.preset,
        tokenizer=tokenizer,
        frames=chain.probe.table("frames"),
        fps=this.recipe.frames.fps,
        max_side=this.recipe.shards.max_side,
    )

    def build(folder: Path) -> Counts:
        media = tables.rows(chain.probe.table("media"), ["key", "height", "width"])
        sizes = {row["key"]: (row["height"], row["width"]) for row in media}
        work = functools.partial(tokens.count_partition, counter=counter, sizes=sizes)
        found = tables.read(chain.dedup.table("samples"))
        this.partitions(f"tokens {name}", work, found, 4096 if not _moving(found) else 64, folder, "ray")
        return row_counts(folder, "tokens")

    return this.run.step(
        f"tokens.{name}",
        config={
            "preset": counter.preset,
            "fps": counter.fps,
            "max_side": counter.max_side,
            "tokenizer": str(tokenizer.parent.name),
        },
        inputs=[chain.dedup, chain.probe],
        code=["data_engine.tokens"],
        build=build,
    )


def _moving(found: pa.Table) -> bool:
    return "video" in found["modality"].unique().to_pylist()


def run_gate(this: Curation, kept: Mapping[str, Chain], counted: Mapping[str, StepResult]) -> StepResult:
    releases = {corpus.corpus: _last_release(this, corpus) for corpus in this.recipe.corpora}

    def build(folder: Path) -> Counts:
        counts = corpora_counts(this)
        observed = {
            name: _observed(this, chain, counted.get(name), counts[name], releases[name])
            for name, chain in kept.items()
        }
        return gates.validate(gates.table(observed, this.recipe.gates), this.recipe.gates, folder)

    return this.run.step(
        "gate",
        config=[[gate.model_dump() for gate in this.recipe.gates], {k: v.steps for k, v in releases.items() if v}],
        inputs=[
            step for name, chain in kept.items() for step in (chain.ingest, chain.dedup, counted.get(name)) if step
        ],
        code=["data_engine.gates"],
        build=build,
    )


@dataclass(frozen=True, slots=True)
class _Release:
    """An earlier release's gate, and the measures of the samples it kept of one corpus."""

    gate: Path
    measures: Path

    @property
    def steps(self) -> list[str]:
        return [self.gate.name, self.measures.parent.name]


def _last_release(this: Curation, corpus: Corpus) -> _Release | None:
    """The last release that the corpus's `against` names, if it holds the corpus and came to its gate."""
    for release in corpus.against[-1:]:
        steps = catalog.steps(Path(this.recipe.root, release))
        if "gate" in steps and f"dedup.{corpus.corpus}" in steps:
            return _Release(steps["gate"], steps[f"dedup.{corpus.corpus}"] / "measures")
    return None


def _observed(
    this: Curation, chain: Chain, counted: StepResult | None, counts: Mapping[str, int], release: _Release | None
) -> gates.Observed:
    corpus = chain.dedup.name.partition(".")[2]
    folders = {name: chain.dedup.table(name) for name in ("verdicts", "samples", "measures")}
    folders["measured"] = this.run.done[f"measure.{corpus}"].table("measures")
    folders["tokens"] = (counted or chain.dedup).table("tokens")  # none where samples are published uncounted
    if release is None:
        return gates.Observed(folders, counts)
    return gates.Observed(folders, counts, release.measures, metrics.earlier(release.gate / "metrics.json", corpus))


def plan_mix(this: Curation, kept: Mapping[str, Chain], counted: Mapping[str, StepResult]) -> StepResult:
    """The pool and the first epoch's order, of the corpora that the gate did not set aside."""
    aside = gates.set_aside(this.run.done["gate"].folder)
    kept = {name: chain for name, chain in kept.items() if name not in aside}

    def build(folder: Path) -> Counts:
        folders = [(chain.dedup.table("samples"), counted[name].table("tokens")) for name, chain in kept.items()]
        holdouts = {corpus.corpus: corpus.holdout for corpus in this.recipe.corpora}
        try:
            return mix.build(folders, holdouts, this.recipe, folder)
        except ValueError as error:  # a modality that the mixture wants has no sample left
            raise RecipeError(str(error)) from error

    return this.run.step(
        "mix",
        config=mix_config(this.recipe),
        inputs=[step for name, chain in kept.items() for step in (chain.dedup, counted[name])],
        code=["data_engine.mix", "data_engine.mixture", "data_engine.mixture_kernels", "data_engine.repeats"],
        build=build,
    )


def mix_config(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe a mix depends on."""
    return {
        "mixture": recipe.mixture.model_dump(),
        "repeats": mix.repeats_digest(recipe),
        "holdout": [corpus.holdout.model_dump() for corpus in recipe.corpora],
        "shard_samples": recipe.shards.samples,
    }


def write_shards(this: Curation) -> StepResult:
    """The shards of what is mixed, as `DIR/shards`, and in the recipe's target if it has one. Raises TargetError."""
    recipe, pool = this.recipe, this.run.done["mix"]
    frames = [result.table("frames") for name, result in this.run.done.items() if name.startswith("probe.")]
    inputs = [pool, *(result for name, result in this.run.done.items() if name.startswith("probe."))]

    def build(folder: Path) -> Counts:
        layout = shards.Layout(
            store=this.store,
            frames=_joined(frames, folder / "_frames"),
            fps=recipe.frames.fps,
            max_side=recipe.shards.max_side,
            preset=recipe.preset,
            max_bytes=recipe.shards.bytes,
        )
        work = functools.partial(shards.shard_partition, layout=layout, folder=folder / "shards")
        parts = tables.parts(pool.table("pool"))
        report = functools.partial(this.progress, "shards")
        partition.run(this.runner or "ray", work, parts, folder, report)
        files = sorted((folder / "shards").glob("*.tar"))
        about = {
            "preset": recipe.preset,
            "tokenizer": recipe.tokenizer or this.run.done["tokenizer"].folder.name,
            "mixture": mix.mixture_beside(recipe, folder / "shards").model_dump(),
        }
        shards.write_manifest(folder / "shards", files, about)
        rights.write_attribution(parts, recipe.rights, folder / "shards" / "ATTRIBUTION.md")
        return {
            "shards": len(files),
            "samples_kept": sum(map(tables.num_rows, parts)),
        }

    result = this.run.step(
        "shards",
        config={
            "shards": recipe.shards.model_dump(exclude={"target"}),
            "frames": recipe.frames.model_dump(),
            "preset": recipe.preset,
            "attribution": recipe.rights.attribution,
        },
        inputs=inputs,
        code=["data_engine.shards", "data_engine.rights"],
        build=build,
    )
    publish(result.table("shards"), this.run.out / "shards")
    if recipe.shards.target is not None:
        shard_target.upload(result.table("shards"), recipe.shards.target, functools.partial(this.progress, "upload"))
    return result


def _joined(folders: Sequence[Path], target: Path) -> Path:
    """One folder that shows the frame tables of all corpora, by links."""
    target.mkdir(parents=True, exist_ok=True)
    for file in (file for folder in folders for file in tables.parts(folder)):
        link = target / file.name
        if not link.is_symlink():
            link.symlink_to(file.resolve())
    return target


def publish(folder: Path, link: Path) -> None:
    """Points a lasting name (`DIR/shards`) at the step folder that holds it now, in one rename."""
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(folder, link.parent))
    fresh.replace(link)


def corpora_counts(this: Curation) -> dict[str, dict[str, int]]:
    """`corpus_counts` of every corpus of the recipe."""
    counts = {name: result.record["counts"] for name, result in this.run.done.items()}
    return {corpus.corpus: corpus_counts(counts, corpus.corpus) for corpus in this.recipe.corpora}


def corpus_counts(counts: Mapping[str, Mapping[str, int]], corpus: str) -> dict[str, int]:
    """A corpus's totals from the counts of its steps: ingested = kept + dropped + rerouted + quarantined.

    Ingested are the samples that were read, or made of those that were read. Dropped is also that of which a maker made
    nothing; quarantined what could not be read, or had a fault in making. `rewritten` are no longer what was read.
    """
    final, making = counts[f"dedup.{corpus}"], making_steps(counts, corpus)
    refused = sum(counts[name]["quarantine"] for name in (f"ingest.{corpus}", *making))
    lost = sum(counts[name]["lost"] for name in making)
    return {
        "ingested": final["samples_in"] + refused + lost,
        "kept": final["samples_kept"],
        "dropped": final["samples_dropped"] + lost,
        "rerouted": final.get("samples_rerouted", 0),
        "quarantined": final["samples_quarantined"] + refused,
        "rewritten": counts.get(f"rewrite.{corpus}", {}).get("rewritten", 0),
    }
