"""The gate: a Great Expectations suite over the metrics table, one row per corpus.

Expectations look at metrics computed by our own pass, never at the raw samples, so the gate costs the
same for a thousand samples and for a billion.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc

from data_engine import tables
from data_engine.media import write_atomic
from data_engine.recipe import Gate
from data_engine.step import Counts
from strict_yaml import nearest

METRICS = (
    *("ingested", "kept", "dropped", "quarantined"),
    *(
        "kept_share",
        "dropped_share",
        "quarantined_share",
        "duplicate_share",
        "share_zh",
        "mean_tokens",
        "tokens",
    ),
)


def metrics(folders: Mapping[str, Mapping[str, Path]], counts: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """One row per corpus with the columns `METRICS`.

    `folders` names each corpus's `verdicts`, `samples` and `tokens` tables, `counts` its four totals.
    """
    return pd.DataFrame([{"corpus": name, **_metrics(folders[name], counts[name])} for name in folders])


def _metrics(folders: Mapping[str, Path], counts: Mapping[str, int]) -> dict[str, float]:
    verdicts, tokens = tables.read(folders["verdicts"]), tables.read(folders["tokens"], ["tokens"])["tokens"]
    twins = pc.sum(pc.fill_null(pc.starts_with(verdicts["operator"], "dedup."), False)).as_py() or 0
    targets = ["".join(_targets(row)) for row in tables.read(folders["samples"], ["messages"])["messages"].to_pylist()]
    chinese = sum(any("\u4e00" <= letter <= "\u9fff" for letter in text) for text in targets)
    total, kept = max(counts["ingested"], 1), max(counts["kept"], 1)
    return {
        **counts,
        **{f"{name}_share": counts[name] / total for name in ("kept", "dropped", "quarantined")},
        "duplicate_share": twins / total,
        "share_zh": chinese / kept,
        "mean_tokens": (pc.sum(tokens).as_py() or 0) / kept,
        "tokens": pc.sum(tokens).as_py() or 0,
    }


def _targets(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    spoken = [message for message in messages if message["role"] in {"assistant", "document"}]
    return [part["text"] or "" for message in spoken for part in message["parts"]]


def check(gates: Sequence[Gate], corpora: Sequence[str]) -> None:
    """Refuses a gate on a measure or corpus there is none of. Raises RecipeError."""
    for number, gate in enumerate(gates):
        nearest(f"gates.{number}.measure", gate.measure, METRICS)
        if gate.corpus is not None:
            nearest(f"gates.{number}.corpus", gate.corpus, corpora)


def validate(table: pd.DataFrame, gates: Sequence[Gate], folder: Path) -> Counts:
    """Runs the suite over the metrics and leaves metrics and `gate.json` in `folder`."""
    results = [_expect(table, gate) for gate in gates] if gates else []
    stopped = [result for result in results if not result["success"] and result["action"] == "stop"]
    table.to_json(folder / "metrics.json", orient="records", indent=1)
    report = {"passed": not stopped, "expectations": results}
    write_atomic(folder / "gate.json", json.dumps(report, indent=1).encode())
    return {"expectations": len(results), "failed": len(stopped)}


def _expect(table: pd.DataFrame, gate: Gate) -> dict[str, Any]:
    rows = table if gate.corpus is None else table[table["corpus"] == gate.corpus]
    found = _validate(rows, gate)
    outside = found.result.get("partial_unexpected_list") or []
    return {
        **gate.model_dump(),
        "success": bool(found.success),
        "observed": {str(r["corpus"]): round(float(r[gate.measure]), 6) for _, r in rows.iterrows()},
        "outside": [round(float(value), 6) for value in outside],
    }


def _validate(rows: pd.DataFrame, gate: Gate) -> Any:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations as gx
    from great_expectations.expectations import ExpectColumnValuesToBeBetween

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("metrics").add_dataframe_asset("metrics")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": rows})
    return batch.validate(ExpectColumnValuesToBeBetween(column=gate.measure, min_value=gate.min, max_value=gate.max))


def summary(folder: Path) -> dict[str, Any]:
    """What gate.json says."""
    report: dict[str, Any] = json.loads((folder / "gate.json").read_text())
    return report


def failed(folder: Path) -> list[str]:
    """One line per expectation that stops the run."""
    return [
        describe(result)
        for result in summary(folder)["expectations"]
        if not result["success"] and result["action"] == "stop"
    ]


def describe(result: Mapping[str, Any]) -> str:
    """An expectation's outcome as one line, naming the corpora outside its bounds."""
    low, high = result["min"], result["max"]
    outside = [
        f"{corpus} = {value:g}"
        for corpus, value in result["observed"].items()
        if (low is not None and value < low) or (high is not None and value > high)
    ]
    bounds = " and ".join(
        f"{word} {bound:g}" for word, bound in (("at least", low), ("at most", high)) if bound is not None
    )
    return f"gate: {result['measure']} should be {bounds}: {', '.join(outside) or 'holds'}"
