"""Planted answers, right and wrong, held against their truths: the accuracy of every verifier."""

import itertools
import time
from collections import Counter

from data_engine.demo_corpora import default_cache
from data_engine.verify.check import judge
from data_engine.verify.truth import truth_from
from tests.data_engine.verify.planted import Planted, planted, unfinished

SORTS = ("right", "wrong", "near", "unfinished")


def report(count: int) -> None:
    """Prints the accuracy of each verifier on `count` planted answers and their copies in unfinished thoughts."""
    pictures = sorted((default_cache() / "easy_vqa" / "images").glob("*.png"))
    print(f"{'verifier':10} {'items':>6} {'all':>7} " + " ".join(f"{sort:>16}" for sort in SORTS), "   us/item")
    for kind, items in planted(pictures, seed=11).items():
        hits, all_ = Counter[str](), Counter[str]()
        spent = 0.0
        for item in itertools.islice(items, count):
            spent += _tally(item, item.reply, item.sort, hits, all_)
            if item.sort == "right":
                spent += _tally(item, unfinished(item.reply), "unfinished", hits, all_)
        shares = (f"{hits[sort]:5d}/{all_[sort]:<5d}{hits[sort] / max(1, all_[sort]):.3f}" for sort in SORTS)
        total = all_.total()
        print(
            f"{kind:10} {total:6d} {hits.total() / total:7.4f} " + " ".join(f"{share:>16}" for share in shares),
            f"{spent / total * 1e6:10.0f}",
        )


def _tally(item: Planted, reply: str, sort: str, hits: Counter[str], all_: Counter[str]) -> float:
    truth = truth_from(item.truth)
    started = time.perf_counter()
    judgement = judge(truth, reply)
    spent = time.perf_counter() - started
    hit = judgement.right == (sort == "right")
    all_[sort] += 1
    hits[sort] += hit
    if not hit:
        print(f"  missed ({sort}): {dict(item.truth)!r:.150} {reply!r:.200}: {judgement.why}")
    return spent
