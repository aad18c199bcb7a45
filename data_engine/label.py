"""OCR labels: a real recogniser reads every image of an OCR corpus.

Where a sample came without an answer the reading becomes its target (a new sample, whose parent is the
unlabelled one); where it came with exact truth the reading is kept beside it, for the agreement measure. The recipe's
rewrites of words are applied to a reading before it is kept anywhere.
"""

import dataclasses
from pathlib import Path

import pyarrow as pa

from data_engine import rewrites
from data_engine import sample as samples
from data_engine.describe import READINGS
from data_engine.media import MediaStore, decode_image
from data_engine.models import ocr
from data_engine.sample import Sample, assistant

OCR_SCHEMA = pa.schema([pa.field("id", pa.string()), *READINGS, pa.field("ocr_notes", pa.list_(rewrites.NOTE))])


def label_partition(table: pa.Table, *, store: Path, rewriting: rewrites.Rewrites = ()) -> dict[str, pa.Table]:
    """Samples to `samples` (labelled by their first image) and `ocr` (readings keyed by the new id).

    A sample that begins with no image passes as it is, without a reading.
    """
    labelled, readings = [], []
    for sample in samples.from_table(table):
        if not (sample.media and sample.media[0].kind == "image" and sample.media[0].start is None):
            labelled.append(sample)
            continue
        reading = ocr.read_text(decode_image(MediaStore(store).read(sample.media[0].key)))
        text, notes = rewrites.clean_reading(reading.text, rewriting)
        done = with_answer(sample, text)
        labelled.append(done)
        readings.append(
            {
                "id": done.id,
                "ocr_text": text,
                "ocr_score": reading.score,
                "ocr_lines": reading.num_lines,
                "ocr_boxes": reading.boxes,
                "ocr_notes": notes,
            }
        )
    return {
        "samples": samples.to_table(labelled),
        "ocr": pa.Table.from_pylist(readings, schema=OCR_SCHEMA),
    }


def with_answer(sample: Sample, text: str) -> Sample:
    """The sample itself if it has an answer or nothing was read, else its labelled child."""
    if not text or any(message.role == "assistant" for message in sample.messages):
        return sample
    messages = (*sample.messages, assistant(text))
    return dataclasses.replace(sample, messages=messages, parents=(sample.id,), id="")
