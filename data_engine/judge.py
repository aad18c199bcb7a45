"""Measure, then decide: operators run over samples joined with what is known of their media."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine import tables
from data_engine.describe import FIRST_MEDIUM, READINGS, describe
from data_engine.media import MediaStore, write_atomic
from data_engine.operators import (
    caption,
    grounding,
    image_text,
    interleaved,
    ocr,
    perplexity,
    pii,
    policy,
    safety,
    sft,
    text,
    video,
    web_text,
)
from data_engine.operators.base import Operator
from data_engine.recipe import Corpus, Recipe
from data_engine.rights import Rights
from data_engine.tombstones import Tombstone, tombstoned
from model.visual_tokens import CONTROL_TOKENS

Operators = Sequence[tuple[str, Operator]]

# The recipe's names for operators: one line per operator, in the order of the families.
OPERATORS: Mapping[str, type[Operator]] = {
    "text_quality": text.TextQuality,
    "language": text.Language,
    "length": text.Length,
    "repetition": text.Repetition,
    "rights": policy.Licence,
    "web_text": web_text.WebText,
    "turn_order": sft.TurnOrder,
    "media_reference": sft.MediaReference,
    "task_type": sft.TaskType,
    "difficulty": sft.Difficulty,
    "resolution": caption.Resolution,
    "blank": caption.Blank,
    "blur": caption.Blur,
    "pictures": caption.Pictures,
    "animated": caption.Animated,
    "boilerplate": caption.Boilerplate,
    "file_name": caption.FileName,
    "hashtags": caption.Hashtags,
    "image_text_score": image_text.ImageTextScore,
    "ocr_agreement": ocr.OcrAgreement,
    "ocr_confidence": ocr.OcrConfidence,
    "ocr_boxes": ocr.OcrBoxes,
    "ocr_script": ocr.OcrScript,
    "ocr_order": ocr.OcrOrder,
    "ocr_density": ocr.OcrDensity,
    "ocr_engines": ocr.OcrEngines,
    "grounding_sanity": grounding.GroundingSanity,
    "counting": grounding.Counting,
    "crop_text_score": grounding.CropTextScore,
    "garbled": interleaved.Garbled,
    "interleaved": interleaved.Interleaved,
    "interleaved_match": interleaved.InterleavedMatch,
    "pii": pii.Pii,
    "safety": safety.Safety,
    "perplexity": perplexity.Perplexity,
    "motion": video.Motion,
    "brightness": video.Brightness,
    "duration": video.Duration,
    "static": video.Static,
    "black": video.Black,
    "text_area": video.TextArea,
}
VERDICT_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "source", "origin", "status", "operator", "reason", "route")]
)


Specs = list[dict[str, dict[str, Any]]]


def specs_of(recipe: Recipe, corpus: Corpus) -> Specs:
    """The operators that judge a corpus, in order: the recipe's licence policy before the corpus's own."""
    policy: Specs = [{"rights": {"policy": recipe.rights.model_dump()}}] if recipe.rights != Rights() else []
    return [*policy, *corpus.operators]


def build(specs: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[tuple[str, Operator]]:
    """The recipe's operator list as (name, operator). Unknown names are refused by `curate.check`."""
    return [(name, OPERATORS[name](**fields)) for spec in specs for name, fields in spec.items()]


def settled(operators: Operators, measures: Path) -> list[tuple[str, Operator]]:
    """The operators as a run decides with them: a percentile is of the whole corpus (the table `measures`)."""
    return [(name, _settled(operator, measures)) for name, operator in operators]


def _settled(operator: Operator, measures: Path) -> Operator:
    if isinstance(operator, image_text.Scored) and operator.min_percentile is not None:
        return operator.settled(tables.read(measures, operator.looks_at[:1]))
    return operator


def measured_config(operators: Sequence[tuple[str, Operator]]) -> list[Any]:
    """What the measures depend on: operator names and the fields in `measured_by`, no threshold."""
    return [[name, operator.model_dump(include=set(operator.measured_by))] for name, operator in operators]


@dataclass(frozen=True, slots=True)
class Sight:
    """Where a corpus's samples are, and what is known of their media: `looked` holds what models saw in them.

    `footage`: videos without a word about them are samples too; captions are yet to come.
    """

    samples: Path
    probe: Path
    readings: Path | None
    store: Path
    looked: Path | None = None
    footage: bool = False


def measure_partition(units: pa.Table, *, operators: Operators, sight: Sight) -> dict[str, pa.Table]:
    """A part of the samples to its measures, row for row, those that needed the media among them."""
    batch = _batch(units, sight)
    columns: dict[str, Any] = {name: batch[name] for name in IDENTITY}
    columns["has_target"] = pc.greater(pc.utf8_length(batch["target"]), 0)
    if sight.footage:
        columns["has_target"] = pc.or_(columns["has_target"], is_footage(batch))
    columns["control_token"] = pc.match_substring_regex(batch["text"], _CONTROL)
    columns["language"] = text.languages(batch["target"])
    columns |= {name: batch[name] for name in (*FIRST_MEDIUM, *READINGS.names)}
    for _, operator in operators:
        columns |= operator.measure(batch)
    if sight.looked:
        looked = pq.read_table(sight.looked / units["part"][0].as_py())
        columns |= {name: looked[name] for name in looked.column_names}
    return {"measures": pa.table(columns)}


def look_partition(units: pa.Table, *, operators: Operators, sight: Sight) -> dict[str, pa.Table]:
    """The measures that need the media themselves, row for row; null where a medium cannot be used."""
    batch = _batch(units, sight)
    usable = pc.is_null(batch["bad_media"]).to_numpy(zero_copy_only=False)
    place = pa.array(np.cumsum(usable) - 1, mask=~usable)
    seen: dict[str, Any] = {}
    for _, operator in operators:
        found = operator.measure_media(batch.filter(pa.array(usable)), MediaStore(sight.store))
        seen |= {name: column.take(place) for name, column in found.items()}
    return {"looked": pa.table(seen)}


IDENTITY = ("id", "source", "origin", "media_keys", "media_phash", "clips", "content_key", "bad_media")


def _batch(units: pa.Table, sight: Sight) -> pa.Table:
    return describe(pq.read_table(sight.samples / units["part"][0].as_py()), sight.probe, sight.readings)


def is_footage(batch: pa.Table) -> pa.Array:
    """Which samples are a video and nothing else."""
    return pc.and_(pc.equal(batch["modality"], "video"), pc.equal(pc.utf8_length(batch["text"]), 0))


def decide_partition(
    units: pa.Table, *, operators: Operators, measures: Path, removed: Sequence[Tombstone] = ()
) -> dict[str, pa.Table]:
    """A part's stored measures to its verdicts, row for row; what was `removed` for good has its own reason first."""
    found = pq.read_table(measures / units["part"][0].as_py())
    gone = tombstoned(found, removed) if removed else pa.nulls(len(found), pa.string())
    return {"verdicts": decide(found, operators, gone)}


def decide(measures: pa.Table, operators: Operators, gone: pa.Array | None = None) -> pa.Table:
    """Verdicts from stored measures: cheap, so a threshold moves without recomputation.

    status is `quarantined` (a medium is unusable), `dropped` (by the first operator with a reason), `rerouted` (the
    same, by one that has a `route`) or `kept`. `gone` says per row why it may not come back at all, or null.
    """
    bad = measures["bad_media"]
    reason, operator = bad, pc.if_else(pc.is_valid(bad), "media", None)
    first = [("tombstone", gone)] if gone is not None else []
    label = pc.if_else(measures["has_target"], pc.if_else(measures["control_token"], CONTROL, None), NO_TARGET)
    for name, found in [*first, ("label", label)]:
        operator = pc.if_else(pc.and_(pc.is_null(reason), pc.is_valid(found)), name, operator)
        reason = pc.coalesce(reason, found)
    route = pa.nulls(len(measures), pa.string())
    for name, rule in operators:
        found = pc.if_else(pc.is_valid(reason), None, rule.decide(measures))
        operator = pc.if_else(pc.is_valid(found), name, operator)
        route = pc.if_else(pc.is_valid(found), pa.scalar(rule.route, pa.string()), route)
        reason = pc.coalesce(reason, found)
    out = pc.if_else(pc.is_valid(route), "rerouted", "dropped")
    status = pc.if_else(pc.is_valid(bad), "quarantined", pc.if_else(pc.is_valid(reason), out, "kept"))
    columns = {**{name: measures[name] for name in ("id", "source", "origin")}, "status": status}
    return pa.table({**columns, "operator": operator, "reason": reason, "route": route}, schema=VERDICT_SCHEMA)


NO_TARGET = "no text could be read"
# What only the processor writes: a sample that holds it could not be trained on (`model.processing`).
CONTROL = "holds a control token, such as <|im_end|>"
_CONTROL = "|".join(map(re.escape, CONTROL_TOKENS))
SETTLED = "operators.json"


def write_operators(operators: Operators, folder: Path) -> None:
    """The operators as they decide, percentiles turned into scores: what a sample's story is told by."""
    specs = [{name: operator.model_dump(mode="json")} for name, operator in operators]
    write_atomic(folder / SETTLED, json.dumps(specs, indent=1, ensure_ascii=False).encode())


def story(measures: pa.Table, operators: Operators) -> list[dict[str, Any]]:
    """What each operator says of one sample (a table of one row), up to the first that drops it."""
    told = []
    for name, rule in operators:
        reason = rule.decide(measures)[0].as_py()
        seen = {column: measures[column][0].as_py() for column in rule.looks_at if column in measures.column_names}
        settings = rule.model_dump()
        verdict = ("reroute" if rule.route else "drop") if reason else "keep"
        told.append({"operator": name, "verdict": verdict, "reason": reason, "measures": seen})
        told[-1]["settings"] = settings
        if reason:
            break
    return told
