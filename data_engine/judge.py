"""Measure, then decide: operators run over samples joined with what is known of their media."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from data_engine import sample as samples
from data_engine.operators import caption, ocr, text, video
from data_engine.operators.base import Operator
from data_engine.sample import Sample

# The recipe's names for operators: one line per operator, in the order of the families.
OPERATORS: Mapping[str, type[Operator]] = {
    "text_quality": text.TextQuality,
    "language": text.Language,
    "length": text.Length,
    "repetition": text.Repetition,
    "resolution": caption.Resolution,
    "blank": caption.Blank,
    "ocr_agreement": ocr.OcrAgreement,
    "ocr_confidence": ocr.OcrConfidence,
    "motion": video.Motion,
    "brightness": video.Brightness,
}
MEDIA_MEASURES = ("width", "height", "duration", "phash", "entropy", "sharpness", "luma", "motion")
OCR_MEASURES = ("ocr_text", "ocr_score", "ocr_lines")
VERDICT_SCHEMA = pa.schema(
    [("id", pa.string()), ("origin", pa.string())]
    + [("status", pa.string()), ("operator", pa.string()), ("reason", pa.string())]
)
LINEAGE_SCHEMA = pa.schema(
    [("id", pa.string()), ("origin", pa.string()), ("order", pa.int32()), ("operator", pa.string())]
    + [
        ("settings", pa.string()),
        ("verdict", pa.string()),
        ("reason", pa.string()),
        ("measures", pa.string()),
    ]
)


def build(specs: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[tuple[str, Operator]]:
    """The recipe's operator list as (name, operator). Unknown names are refused by `curate.check`."""
    return [(name, OPERATORS[name](**fields)) for spec in specs for name, fields in spec.items()]


def measured_config(operators: Sequence[tuple[str, Operator]]) -> list[Any]:
    """What the measures depend on: operator names and the fields in `measured_by`, no threshold."""
    return [[name, operator.model_dump(include=set(operator.measured_by))] for name, operator in operators]


def measure_partition(
    table: pa.Table,
    *,
    operators: Sequence[tuple[str, Operator]],
    media: Mapping[str, Any],
    readings: Mapping[str, Any],
) -> dict[str, pa.Table]:
    """Samples to their measures. `media` and `readings` are the probe's and the OCR's rows by key and by id."""
    batch = describe(samples.from_table(table), media, readings)
    columns = {name: batch[name] for name in ("id", "origin", "media_keys", "content_key", "bad_media")}
    columns |= {name: batch[name] for name in (*MEDIA_MEASURES, *OCR_MEASURES) if batch[name].null_count < len(batch)}
    columns["has_target"] = pc.greater(pc.utf8_length(batch["target"]), 0)
    for _, operator in operators:
        columns |= operator.measure(batch)
    return {"measures": pa.table(columns)}


def describe(found: Sequence[Sample], media: Mapping[str, Any], readings: Mapping[str, Any]) -> pa.Table:
    """The columns operators see: words, and the measures of the first medium."""
    rows = [_describe(sample, media, readings.get(sample.id, {})) for sample in found]
    types: dict[str, pa.DataType] = {name: pa.string() for name in ("id", "origin", "task", "text", "target")}
    types |= {"media_keys": pa.list_(pa.string()), "content_key": pa.string(), "bad_media": pa.string()}
    types |= {name: pa.float64() for name in MEDIA_MEASURES}
    types |= {
        "phash": pa.uint64(),
        "ocr_text": pa.string(),
        "ocr_score": pa.float64(),
        "ocr_lines": pa.int32(),
    }
    return pa.Table.from_pylist(rows, schema=pa.schema(list(types.items())))


def _describe(sample: Sample, media: Mapping[str, Any], reading: Mapping[str, Any]) -> dict[str, Any]:
    keys = list(dict.fromkeys(item.key for item in sample.media))
    known = [media[key] for key in keys if "width" in media.get(key, {})]
    bad = [media[key]["reason"] for key in keys if "reason" in media.get(key, {})]
    first = known[0] if known else {}
    return {
        "id": sample.id,
        "origin": sample.origin,
        "task": sample.task,
        "text": sample.text,
        "target": target_text(sample),
        "media_keys": keys,
        "content_key": content_key(sample, [item["pixel_hash"] for item in known]),
        "bad_media": bad[0] if bad else None,
        **{name: first.get(name) for name in MEDIA_MEASURES},
        **{name: reading.get(name) for name in OCR_MEASURES},
    }


def target_text(sample: Sample) -> str:
    """What the model is trained to say: the assistant's words, or the document."""
    spoken = (m.text for m in sample.messages if m.role in {"assistant", "document"})
    return "\n".join(words for words in spoken if words)


def content_key(sample: Sample, pixel_hashes: Sequence[str]) -> str:
    """Equal for samples that show the same pictures with the same words, whatever the file formats.

    Words are compared without case and with white space folded; spans of videos count as they are.
    """
    words = " ".join(sample.text.casefold().split())
    spans = [(item.start, item.end) for item in sample.media]
    return xxhash.xxh128_hexdigest(json.dumps([sample.task, words, list(pixel_hashes), spans]).encode())


def decide(measures: pa.Table, operators: Sequence[tuple[str, Operator]]) -> tuple[pa.Table, pa.Table]:
    """Verdicts and lineage from stored measures: cheap, so a threshold moves without recomputation.

    status is `quarantined` (a medium is unusable), `dropped` (by the first operator with a reason) or `kept`.
    """
    bad = measures["bad_media"]
    reason = pc.if_else(pc.is_valid(bad), bad, pc.if_else(measures["has_target"], None, "no text could be read"))
    operator = pc.if_else(pc.is_valid(bad), "media", pc.if_else(pc.is_valid(reason), "label", None))
    lineage = [lineage_rows(measures, 0, "media", {}, reason)]
    for order, (name, rule) in enumerate(operators, start=1):
        found = pc.if_else(pc.is_valid(reason), None, rule.decide(measures))
        seen = [column for column in rule.looks_at if column in measures.column_names]
        active = measures.filter(pc.is_null(reason))
        said = found.filter(pc.is_null(reason))
        lineage.append(lineage_rows(active, order, name, rule.model_dump(), said, seen))
        operator = pc.if_else(pc.is_valid(found), name, operator)
        reason = pc.coalesce(reason, found)
    status = pc.if_else(pc.is_valid(bad), "quarantined", pc.if_else(pc.is_valid(reason), "dropped", "kept"))
    verdicts = pa.table(
        {
            "id": measures["id"],
            "origin": measures["origin"],
            "status": status,
            "operator": operator,
            "reason": reason,
        },
        schema=VERDICT_SCHEMA,
    )
    return verdicts, pa.concat_tables(lineage)


def lineage_rows(
    rows: pa.Table,
    order: int,
    operator: str,
    settings: Mapping[str, Any],
    reason: pa.Array,
    seen: Sequence[str] = (),
) -> pa.Table:
    """One lineage record per row: what the operator saw (the columns `seen`) and what it said."""
    count = rows.num_rows
    values = [json.dumps(row, ensure_ascii=False) for row in rows.select(list(seen)).to_pylist()]
    return pa.table(
        {
            "id": rows["id"],
            "origin": rows["origin"],
            "order": pa.array([order] * count, pa.int32()),
            "operator": pa.array([operator] * count, pa.string()),
            "settings": pa.array([json.dumps(settings, sort_keys=True)] * count, pa.string()),
            "verdict": pc.if_else(pc.is_valid(reason), "drop", "keep"),
            "reason": reason,
            "measures": pa.array(values if seen else ["{}"] * count, pa.string()),
        },
        schema=LINEAGE_SCHEMA,
    )
