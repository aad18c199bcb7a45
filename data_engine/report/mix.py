"""The mix achieved: shares of tokens against the target, along the epoch, per corpus; and the shards."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup
from matplotlib.figure import Figure

from data_engine import catalog, tables
from data_engine.report import figures
from data_engine.report.corpora import steps
from data_engine.report.html import NotRunError, read_json, render, svg
from data_engine.sample import MODALITIES

MISSING = "not run yet: nothing was mixed, because the run has not passed its gate"
POINTS = 600
"""Places of the epoch at which the shares are drawn."""


def report(data: Path) -> dict[str, Any]:
    """mix.json, with `error`: the largest distance of a share from its target, and `bound`: the largest sample.

    `bound` is in the same unit, its tokens over all tokens of the epoch. Raises NotRunError.
    """
    folder = steps(data).get("mix")
    if folder is None:
        raise NotRunError(MISSING)
    found: dict[str, Any] = read_json(folder / "mix.json", MISSING)
    errors = {name: found["achieved"][name] - share for name, share in found["target"].items()}
    return {
        **found,
        "errors": errors,
        "error": max(map(abs, errors.values())),
        "bound": found["largest_sample"] / max(found["tokens"], 1),
    }


def section(data: Path) -> Markup:
    found = report(data)
    with catalog.open_catalog(data) as connection:
        corpora = catalog.rows(
            connection,
            """SELECT t.corpus, any_value(s.modality) AS modality, count(*) AS samples, sum(t.tokens) AS tokens,
                      sum(t.text_tokens) AS text, sum(t.visual_tokens) AS visual,
                      coalesce(any_value(p.samples), 0) AS epoch_samples,
                      coalesce(any_value(p.tokens), 0) AS epoch_tokens
               FROM tokens AS t
               JOIN (SELECT DISTINCT id, corpus, modality FROM samples) AS s ON s.id = t.id AND s.corpus = t.corpus
               LEFT JOIN (SELECT corpus, count(*) AS samples, sum(tokens) AS tokens FROM plan GROUP BY corpus) AS p
                 ON p.corpus = t.corpus
               GROUP BY t.corpus ORDER BY modality, t.corpus""",
        )
    plot = svg(along(data), "Share of tokens per modality along the epoch")
    return render("mix.html.jinja", mix=found, modalities=MODALITIES, corpora=corpora, plot=plot, shards=shards(data))


def along(data: Path) -> Figure:
    """The figure of the shares along the first epoch. Raises NotRunError."""
    found = report(data)
    return shares_along(tables.read(steps(data)["mix"] / "plan"), found)


def shares_along(plan: pa.Table, found: Mapping[str, Any]) -> Figure:
    """The share of each modality among all tokens so far, along an epoch. `plan`, `found`: as `data_engine.mix` has
    them.
    """
    modality, tokens = plan["modality"].to_numpy(zero_copy_only=False), plan["tokens"].to_numpy()
    places = np.unique(np.linspace(0, len(plan) - 1, POINTS).astype(int))
    total = np.cumsum(tokens)[places]
    shares = {name: np.cumsum(tokens * (modality == name))[places] / total for name in found["target"]}
    return figures.shares_along(places.astype(float), shares, found["target"])


def shards(data: Path) -> list[dict[str, Any]]:
    """Per split: shards, samples, bytes and tokens. Empty where no shards were written."""
    if not (data / "shards" / "manifest.json").is_file():
        return []
    splits = read_json(data / "shards" / "manifest.json", "")["splits"]
    return [
        {
            "split": split,
            "shards": len(files),
            "samples": sum(file["samples"] for file in files),
            "bytes": sum(file["bytes"] for file in files),
            "tokens": sum(_tokens(data / "shards" / file["file"]) for file in files),
        }
        for split, files in sorted(splits.items(), reverse=True)
    ]


def _tokens(tar: Path) -> int:
    tokens = pq.read_table(tar.with_suffix(".index.parquet"), columns=["tokens"])["tokens"]
    return int(tokens.to_numpy().sum())
