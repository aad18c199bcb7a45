"""Every Gopher, C4 and FineWeb statistic in one scan beside datatrove's four filters, in English and in Chinese.

python benchmarks/text_quality.py [--documents 40000] [--peer-documents 1000]

Pages of about a kilobyte, grown from the demo's corpora; four in ten are damaged in one of thirteen ways. Both sides
read Parquet and give four verdicts a page; CPU-seconds, start-up apart. Ours does `--documents` a language and, beside
the peer, its `--peer-documents`. The peer is measured twice: each filter over all pages, which is what our scan
answers, and its four as one pipeline, where a page that one filter drops costs the next nothing and neighbouring
filters share the words. Written to build/bench/text_quality.json.
"""

import argparse
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import peers  # noqa: E402
from grown import rows as grown  # noqa: E402
from grown.documents import pages  # noqa: E402
from measuring import save  # noqa: E402
from peers.clock import cpu_seconds  # noqa: E402

from data_engine.demo_corpora import default_cache, fetch  # noqa: E402
from data_engine.operators.web_text import Rule, WebText  # noqa: E402

RULES: tuple[Rule, ...] = ("gopher_quality", "gopher_repetition", "fineweb", "c4")
GOAL = 100


def ours(file: Path) -> dict[str, Any]:
    """CPU-seconds for the scan and four verdicts a page, from Parquet; the verdicts (a reason, or none)."""
    before = cpu_seconds()
    batch = pq.read_table(file)
    measures = pa.table(WebText().measure(batch))
    verdicts = {rule: WebText(rules=(rule,)).decide(measures) for rule in RULES}
    used = cpu_seconds() - before
    return {
        "cpu": used,
        "verdicts": {rule: found.to_pylist() for rule, found in verdicts.items()},
        "words": measures["num_words"].to_pylist(),
    }


def agreement(mine: list[str | None], theirs: list[str | None]) -> dict[str, Any]:
    """How often both keep, both drop, or one alone drops, and that one's commonest reasons."""
    pairs = list(zip(mine, theirs, strict=True))
    alone = {
        "ours": Counter(a for a, b in pairs if a and not b).most_common(2),
        "theirs": Counter(b for a, b in pairs if b and not a).most_common(2),
    }
    counts = {
        "both_keep": sum(not a and not b for a, b in pairs),
        "ours_drops": sum(bool(a) and not b for a, b in pairs),
        "theirs_drops": sum(bool(b) and not a for a, b in pairs),
        "both_drop": sum(bool(a) and bool(b) for a, b in pairs),
    }
    return {**counts, "agreement": (counts["both_keep"] + counts["both_drop"]) / len(pairs), "alone": alone}


def compare(name: str, ground: grown.Soil, documents: int, peer_documents: int, folder: Path) -> dict[str, Any]:
    texts, damage = pages(ground, name == "zh", documents, seed=int(name == "zh"))
    folder.mkdir(parents=True)
    for size, file in ((documents, "all"), (peer_documents, "some"), (50, "few")):
        pq.write_table(pa.table({"text": texts[:size]}), folder / f"{file}.parquet")
    ours(folder / "few.parquet")  # compiles, or loads what was compiled
    full, same = ours(folder / "all.parquet"), ours(folder / "some.parquet")
    theirs = peers.run("datatrove", "datatrove_filters.py", folder / "peer.json", folder / "some.parquet", name)
    apart = sum(theirs["cpu"].values())
    rates = {
        "keyeforge": documents / full["cpu"],
        "keyeforge_same_pages": peer_documents / same["cpu"],
        "datatrove_each": {rule: peer_documents / cpu for rule, cpu in theirs["cpu"].items()},
        "datatrove_four": peer_documents / apart,
        "datatrove_pipeline": peer_documents / theirs["pipeline"],
    }
    return {
        "language": name,
        "documents": documents,
        "peer_documents": peer_documents,
        "bytes_per_document": sum(len(text.encode()) for text in texts) / documents,
        "damaged": sum(kind != "none" for kind in damage) / documents,
        "words_per_document": [sum(found["words"]) / peer_documents for found in (same, theirs)],
        "per_cpu_second": rates,
        "ratio": {side: rates["keyeforge"] / rates[f"datatrove_{side}"] for side in ("four", "pipeline")},
        "verdicts": {rule: agreement(same["verdicts"][rule], theirs["verdicts"][rule]) for rule in RULES},
    }


def show(found: dict[str, Any]) -> None:
    name, rates, (mine, theirs) = found["language"], found["per_cpu_second"], found["words_per_document"]
    print(
        f"{name}: pages of {found['bytes_per_document']:,.0f} bytes, {found['damaged']:.0%} damaged; words a page: ours"
        f" {mine:.0f}, theirs {theirs:.0f}"
    )
    for label, count, rate in (
        ("keyeforge, one scan and four verdicts", found["documents"], rates["keyeforge"]),
        ("keyeforge on the peer's pages", found["peer_documents"], rates["keyeforge_same_pages"]),
        ("datatrove, four filters, each over all", found["peer_documents"], rates["datatrove_four"]),
        ("datatrove, four filters as one pipeline", found["peer_documents"], rates["datatrove_pipeline"]),
    ):
        print(f"  {label:<40} {count:>7,} pages {rate:9,.0f} pages/CPU-s")
    for side, ratio in found["ratio"].items():
        print(f"  {ratio:.0f} x datatrove ({side}), goal {GOAL}: {'yes' if ratio >= GOAL else 'NO'}")
    print(f"  {'verdicts':<18} {'both keep':>10} {'ours drops':>11} {'theirs drops':>13} {'both drop':>10} agreement")
    for rule, line in found["verdicts"].items():
        counts = line["both_keep"], line["ours_drops"], line["theirs_drops"], line["both_drop"]
        print("  {:<18} {:>10,} {:>11,} {:>13,} {:>10,}".format(rule, *counts) + f" {line['agreement']:9.2%}")
        for side, reasons in line["alone"].items():
            if reasons:
                print(f"  {'':18} {side} alone: " + ", ".join(f"{reason} {count}" for reason, count in reasons))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=40_000)
    parser.add_argument("--peer-documents", type=int, default=1_000)
    parser.add_argument("--out", type=Path, default=Path("build/text_quality"))
    options = parser.parse_args()
    fetch()
    ground = grown.soil(default_cache())
    shutil.rmtree(options.out, ignore_errors=True)
    found = []
    for name in ("en", "zh"):
        sizes = options.documents, options.peer_documents
        found.append(compare(name, ground, *sizes, options.out.resolve() / name))
        show(found[-1])
    save("text_quality", {"goal": GOAL, "languages": found})


if __name__ == "__main__":
    main()
