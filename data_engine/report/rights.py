"""Rights: the kept samples by licence, and to whom attribution is owed."""

from collections import Counter
from pathlib import Path
from typing import Any

from markupsafe import Markup

from data_engine import catalog, tables
from data_engine.report.corpora import corpora, steps
from data_engine.report.html import render
from data_engine.rights import Rights, matches, owed


def section(data: Path) -> Markup:
    """Shares of licences among kept samples, the attributions, and what the policy refused."""
    folders = steps(data)
    names = corpora(data)
    parts = [part for name in names for part in tables.parts(folders[f"dedup.{name}"] / "samples")]
    found = owed(parts, Rights())
    total = max(sum(found.values()), 1)
    by_licence: Counter[str] = Counter()
    for (licence, _, _), count in found.items():
        by_licence[licence or "none given"] += count
    policy = policy_of(data)
    return render(
        "rights.html.jinja",
        licences=[(name, count, count / total) for name, count in by_licence.most_common()],
        rows=[_row(key, count, policy) for key, count in sorted(found.items())],
        policy=policy,
        refused=_refused(data),
    )


def policy_of(data: Path) -> Rights:
    """What the recipe says of rights, as far as its steps know: what they refuse, and who is owed attribution."""
    folders = steps(data)
    specs = [spec for name in corpora(data) for spec in catalog.operators(data, name) if "rights" in spec]
    policy = Rights(**specs[0]["rights"]["policy"]) if specs else Rights()
    config = catalog.record(folders["shards"])["config"] if "shards" in folders else {}
    return policy.model_copy(update={"attribution": config.get("attribution", policy.attribution)})


def _row(key: tuple[str, str, str], count: int, policy: Rights) -> dict[str, Any]:
    licence, attribution, corpus = key
    is_owed = matches(licence, policy.attribution) is not None
    return {"licence": licence, "attribution": attribution, "corpus": corpus, "samples": count, "owed": is_owed}


def _refused(data: Path) -> list[dict[str, Any]]:
    with catalog.open_catalog(data) as connection:
        query = (
            "SELECT corpus, reason, count(*) AS count FROM verdicts WHERE operator = 'rights' GROUP BY ALL ORDER BY ALL"
        )
        return catalog.rows(connection, query)
