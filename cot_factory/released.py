"""What comes out: a corpus of `Sample`s like any other, to be gated, mixed and sharded.

`samples` is the data engine's table (a recipe reads it with `format: release`), `chains` says which chain each is.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cot_factory.question import Question, chain_id, from_table, steps_of
from data_engine import rights, tables
from data_engine import sample as samples
from data_engine.media import write_atomic
from data_engine.rights import Rights
from data_engine.sample import Part, Sample
from data_engine.sources.common import joined
from data_engine.step import Counts

CHAINS = pa.schema(
    [(name, pa.string()) for name in ("id", "chain", "question", "tier", "teacher", "how")]
    + [("score", pa.int32()), ("probability", pa.float64()), ("parents", pa.list_(pa.string()))]
)


def write(corpus: str, questions: Path, kept: Path, scores: Path, folder: Path) -> Counts:
    """The samples of all chains that were kept, part for part; equal ones come once."""
    seen: set[str] = set()
    for part in tables.parts(kept):
        known = {one.id: one for one in from_table(pq.read_table(questions / part.name))}
        score = {row["chain"]: row["score"] for row in pq.read_table(scores / part.name).to_pylist()}
        rows = pq.read_table(part).to_pylist()
        made = list(_distinct(corpus, rows, known, seen))
        tables.write(samples.to_table(sample for sample, _ in made), folder / corpus / part.name)
        about = [_about(sample, row, known[row["question"]], score[chain_id(row)]) for sample, row in made]
        tables.write(pa.Table.from_pylist(about, schema=CHAINS), folder / "chains" / part.name)
    rights.write_attribution(tables.parts(folder / corpus), Rights(), folder / "ATTRIBUTION.md")
    number = tables.count(folder / corpus)
    write_atomic(folder / "manifest.json", json.dumps({corpus: {"samples": number}}, indent=1).encode())
    return {"samples_kept": number}


def _distinct(
    corpus: str, rows: list[dict[str, Any]], known: Mapping[str, Question], seen: set[str]
) -> Iterator[tuple[Sample, dict[str, Any]]]:
    for row in rows:
        sample = sample_of(corpus, known[row["question"]], row)
        if sample.id not in seen:
            seen.add(sample.id)
            yield sample, row


def sample_of(corpus: str, question: Question, row: Mapping[str, Any]) -> Sample:
    """A chain in the thinking form of the chat template; what a teacher worded is also under its terms."""
    kinds = [Part(item.kind, media=(place,)) for place, item in enumerate(question.media)]
    thoughts = "\n".join(step.text for step in steps_of(row["steps"]))
    reply = f"<think>{thoughts}</think> <answer>{row['answer']}</answer>"
    return Sample(
        corpus=corpus, modality=question.modality, task=f"longcot/{question.domain}",
        messages=(samples.user(*kinds, question.text), samples.assistant(reply)), media=question.media,
        licence=joined(question.licence, *(f"teacher:{name}" for name in (row["teacher"], question.teacher) if name)),
        attribution=question.attribution,
        source=question.source, origin=f"{question.origin}#{chain_id(row)}", group=question.group,
        parents=question.parents,
    )  # fmt: skip


def _about(sample: Sample, row: Mapping[str, Any], question: Question, score: int) -> dict[str, Any]:
    kept = {name: row[name] for name in ("question", "tier", "teacher", "probability")}
    told = {"how": question.how, "parents": list(question.parents), "score": score}
    return {"id": sample.id, "chain": chain_id(row), **kept, **told}
