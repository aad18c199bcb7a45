"""What operators route to another job instead of dropping it: `DIR/queues/<route>`, beside the release or the shards.

A queue is a folder of parquet parts with the whole sample in each row, why it is there, and an empty `caption` for the
job to fill; `format: queue` reads what was filled as a source of the next run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from data_engine import judge, tables
from data_engine.describe import SPOKEN, Turns
from data_engine.recipe import Corpus
from data_engine.sample import SCHEMA as SAMPLE
from data_engine.step import Counts

SCHEMA = pa.schema(
    [
        *SAMPLE,
        ("operator", pa.string()),
        ("reason", pa.string()),
        ("route", pa.string()),
        ("scores", pa.map_(pa.string(), pa.float64())),
        ("old_caption", pa.string()),
        ("caption", pa.string()),
    ]
)
Scores = Mapping[str, tuple[str, Sequence[str]]]
"""Per operator that routes: where to, and the measures it looks at."""


def routing(corpus: Corpus) -> Scores:
    return {name: (rule.route, rule.looks_at) for name, rule in judge.build(corpus.operators) if rule.route is not None}


def reroutes(samples: pa.Table, verdicts: pa.Table, measures: pa.Table, scores: Scores) -> pa.Table:
    """The rerouted samples of a part (`SCHEMA`); samples, verdicts and measures are row for row.

    `old_caption` is what the model was to say, `scores` what the operator saw; `caption` is null.
    """
    away = pc.equal(verdicts["status"], "rerouted")
    samples, verdicts, measures = (table.filter(away) for table in (samples, verdicts, measures))
    seen = [
        [(column, row[column]) for column in scores[operator][1] if isinstance(row[column], int | float)]
        for operator, row in zip(verdicts["operator"].to_pylist(), measures.to_pylist(), strict=True)
    ]
    columns = {name: samples[name] for name in SAMPLE.names}
    columns |= {name: verdicts[name] for name in ("operator", "reason", "route")}
    columns["scores"] = pa.array(seen, SCHEMA.field("scores").type)
    columns["old_caption"] = Turns(samples["messages"]).joined(SPOKEN)
    columns["caption"] = pa.nulls(len(samples), pa.string())
    return pa.table(columns, schema=SCHEMA)


def counted(folder: Path) -> Counts:
    """Samples in each of the queues."""
    counts = {path.name: tables.count(path) for path in sorted(folder.iterdir())}
    return {**counts, "samples_kept": sum(counts.values())}
