"""Duplicates: how many each pass found, and some pairs side by side, the least alike first."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from data_engine import catalog
from data_engine.dedup import minhash_kernels
from data_engine.dedup.minhash import MinHash
from data_engine.describe import SPOKEN, Turns
from data_engine.report import contact
from data_engine.report.corpora import Pass, passes
from data_engine.report.html import render
from data_engine.sample import Sample, to_table
from data_engine.words import tables, text_buffers

NOT_TWINS = ("decontaminate", "balance")
"""Passes that drop for other reasons: they have parts of their own."""

NUM_PAIRS = 4
NUM_LOOKED_AT = 100
"""Pairs of a pass that are compared, by their hashed ids; the least alike of them are shown."""

_PAIRS = """
SELECT DISTINCT id, substr(reason, length('duplicate of ') + 1) AS keeper FROM verdicts
WHERE corpus = ? AND operator = ? AND starts_with(reason, 'duplicate of ') ORDER BY id LIMIT ?
"""


def section(data: Path) -> Markup:
    """A row per pass and corpus; then pairs of every pass that tells near-duplicates."""
    found = [one for one in passes(data) if one.name not in NOT_TWINS]
    shown = [(one, pairs(data, one)) for one in found if one.dropped and one.name != "exact"]
    return render("twins.html.jinja", passes=found, pairs=[(one, some) for one, some in shown if some])


def pairs(data: Path, one: Pass) -> list[dict[str, Any]]:
    """Pairs as `dropped` and `kept` (cards; no `kept` where an earlier release has it) and `alike`, in words."""
    with catalog.open_catalog(data) as connection:
        rows = catalog.rows(connection, _PAIRS, one.corpus, f"dedup.{one.name}", NUM_LOOKED_AT)
        found = contact.samples(connection, [name for row in rows for name in (row["id"], row["keeper"])])
        hashes = _hashes(connection, list(found)) if one.name == "perceptual" else {}
    told = [(*_alike(one, found, hashes, row["id"], row["keeper"]), row) for row in rows]
    return [
        {
            "alike": said,
            "dropped": contact.card(data, found[row["id"]], {}),
            "kept": contact.card(data, found[row["keeper"]], {}) if row["keeper"] in found else None,
        }
        for _, said, row in sorted(told, key=lambda item: item[0])[:NUM_PAIRS]
    ]


def _hashes(connection: Any, ids: Sequence[str]) -> dict[str, list[int]]:
    query = "SELECT id, media_phash FROM measures WHERE list_contains(?, id)"
    rows = catalog.rows(connection, query, list(ids))
    return {row["id"]: [value for value in row["media_phash"] or [] if value is not None] for row in rows}


def _alike(
    one: Pass, found: Mapping[str, Sample], hashes: Mapping[str, list[int]], dropped: str, keeper: str
) -> tuple[float, str]:
    """How alike a pair is, 0 to 1 (2: not known here), and in words."""
    if keeper not in found:
        return 2.0, "an earlier release has it"
    if hashes.get(dropped) and hashes.get(keeper):
        bits = hamming(hashes[dropped], hashes[keeper])
        return 1 - bits / 64, f"{bits} of 64 bits differ"
    if one.name == "minhash":
        share = jaccard(found[dropped], found[keeper], MinHash(**one.settings))
        return share, f"Jaccard {share:.2f}"
    return 2.0, ""


def hamming(first: Sequence[int], second: Sequence[int]) -> int:
    """The fewest bits in which a picture of one sample differs from one of the other."""
    return min((a ^ b).bit_count() for a in first for b in second)


def jaccard(first: Sample, second: Sample, config: MinHash) -> float:
    """The share of shingles that two samples have in common, of what `minhash` compares: 0 to 1."""
    turns = Turns(to_table([first, second])["messages"])
    texts = turns.joined(None if config.text == "all" else SPOKEN)
    sets, ends = minhash_kernels.shingle_sets(*text_buffers(texts), *tables(), config.ngram)
    one, other = set(sets[: ends[0]].tolist()), set(sets[ends[0] : ends[1]].tolist())
    return len(one & other) / max(len(one | other), 1)
