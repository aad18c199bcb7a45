"""Mixing: what a schedule costs, and how well shares hold beside two simpler rules.

    python benchmarks/mixture.py [--samples 10000000]

Cost: CPU-seconds to make the schedule of an epoch, and to begin at its first and last place; with one source a modality
at a tenth and all of the samples, and with 10 and 100 sources a modality at a tenth.
Shares, at 24/50/26 over 300,000 samples of lengths such as these corpora have: the largest distance of any modality's
tokens from its share, at any place, in largest samples: by the schedule, by plain largest deficit ("furthest behind
comes next"), and by draws by weight; and the same of 100 corpora of one modality with weights 1 to 100.
"""

import argparse
import time

import numba
import numpy as np
import numpy.typing as npt
from measuring import save

from data_engine.mixture import Pool, Schedule
from data_engine.mixture_kernels import Floats
from data_engine.recipe import Mixture
from data_engine.shard_index import Source

SHARES = {"video": 0.24, "image": 0.50, "text": 0.26}
LOGS = {"video": (8.5, 1.0), "image": (6.5, 1.0), "text": (6.0, 1.2)}
LONGEST = 75_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000_000)
    samples = parser.parse_args().samples
    schedule(pool(1000, 1))  # compiled, or loaded, before anything is timed
    sizes = ((samples // 10, 1), (samples, 1), (samples // 10, 10), (samples // 10, 100))
    print(f"{'samples':>12}{'sources':>9}{'made, s':>10}{'ns a place':>12}{'first, ms':>11}{'last, ms':>10}")
    figures = {"cost": [cost(count, sources) for count, sources in sizes]}
    print(f"\n{'distance from the shares, in largest samples':<46}{'schedule':>10}{'deficit':>10}{'by weight':>11}")
    figures["shares"] = [modalities(), corpora(100)]
    save("mixture", figures)


def pool(samples: int, sources: int) -> Pool:
    """Lengths lognormal, as many of each modality as its share needs; sources of a modality of unequal sizes."""
    random = np.random.default_rng(0)
    means = {name: np.exp(mean + width**2 / 2) for name, (mean, width) in LOGS.items()}
    weights = np.array([share / means[name] for name, share in SHARES.items()])
    counts = (samples * weights / weights.sum()).astype(int)
    drawn = [random.lognormal(*log, count) for log, count in zip(LOGS.values(), counts, strict=True)]
    tokens = np.minimum(np.concatenate(drawn), LONGEST).astype(np.int32) + 1
    part = (random.random(len(tokens)) ** 2 * sources).astype(np.uint16)
    source = np.repeat(np.arange(len(SHARES), dtype=np.uint16), counts) * sources + part
    names = [Source(name, f"{name} {number}") for name in SHARES for number in range(sources)]  # type: ignore[arg-type]
    return Pool(names, source.astype(np.uint16), tokens)


def schedule(mixed: Pool) -> Schedule:
    return Schedule(mixed, Mixture(shares=SHARES), seed=0, epoch=0)  # type: ignore[arg-type]


def cost(samples: int, sources: int) -> dict[str, float]:
    mixed = pool(samples, sources)
    began = time.process_time()
    made = schedule(mixed)
    seconds = time.process_time() - began
    begin = {}
    for name, place in (("first", 0), ("last", len(made) - 1)):
        began = time.process_time()
        next(made.chunks(place, 1))
        begin[name] = 1e3 * (time.process_time() - began)
    print(
        f"{samples:>12,}{3 * sources:>9}{seconds:>10.3f}{1e9 * seconds / len(made):>12.0f}"
        f"{begin['first']:>11.2f}{begin['last']:>10.2f}"
    )
    return {"samples": samples, "sources": 3 * sources, "seconds": seconds, **begin}


def modalities() -> dict[str, float | str]:
    mixed = pool(300_000, 1)
    return distances("3 modalities", mixed, np.array(list(SHARES.values())), schedule(mixed).order())


def corpora(count: int) -> dict[str, float | str]:
    """Of one modality: lengths as those of texts, as many samples of each as its weight needs."""
    random = np.random.default_rng(0)
    weights = np.arange(1, count + 1)
    source = np.repeat(np.arange(count, dtype=np.uint16), 60 * weights)
    tokens = np.minimum(random.lognormal(*LOGS["text"], len(source)), LONGEST).astype(np.int32) + 1
    mixed = Pool([Source("text", f"{number:03d}") for number in range(count)], source, tokens)
    named = {f"{number:03d}": float(weight) for number, weight in enumerate(weights)}
    order = Schedule(mixed, Mixture(shares={"text": 1.0}, weights=named), seed=0, epoch=0).order()
    return distances(f"{count} corpora of a modality", mixed, weights / weights.sum(), order)


def distances(name: str, mixed: Pool, shares: Floats, ours: npt.NDArray[np.int32]) -> dict[str, float | str]:
    found = {
        "schedule": distance(mixed, shares, ours),
        "deficit": distance(mixed, shares, largest_deficit(mixed, shares, len(ours))),
        "by_weight": distance(mixed, shares, by_weight(mixed, shares, len(ours))),
    }
    print(f"{name:<46}{found['schedule']:>10.2f}{found['deficit']:>10.2f}{found['by_weight']:>11.1f}")
    return {"of": name, **found}


def distance(mixed: Pool, shares: Floats, order: npt.NDArray[np.integer]) -> float:
    tokens = mixed.tokens[order].astype(float)
    total = np.cumsum(tokens)
    away = [
        np.abs(np.cumsum(np.where(mixed.source[order] == number, tokens, 0)) - share * total).max()
        for number, share in enumerate(shares)
    ]
    return float(max(away) / tokens.max())


def largest_deficit(mixed: Pool, shares: Floats, length: int) -> npt.NDArray[np.int64]:
    random = np.random.default_rng(1)
    queues = [random.permutation(np.flatnonzero(mixed.source == number)) for number in range(len(shares))]
    ends = np.cumsum([len(queue) for queue in queues])
    found: npt.NDArray[np.int64] = _largest_deficit(np.concatenate(queues), ends, mixed.tokens, shares, length)
    return found


@numba.njit(cache=True)
def _largest_deficit(queues, ends, tokens, shares, length):  # type: ignore[no-untyped-def]
    heads = np.zeros(len(ends), np.int64)
    heads[1:] = ends[:-1]
    used, order = np.zeros(len(ends)), np.empty(length, np.int64)
    for place in range(length):
        chosen = np.argmax(shares * used.sum() - used)
        if heads[chosen] == ends[chosen]:
            return order[:place]
        order[place] = queues[heads[chosen]]
        used[chosen] += tokens[order[place]]
        heads[chosen] += 1
    return order


def by_weight(mixed: Pool, shares: Floats, length: int) -> npt.NDArray[np.int64]:
    random = np.random.default_rng(1)
    counts = np.bincount(mixed.source)
    weights = shares / (np.bincount(mixed.source, mixed.tokens) / counts)
    chosen = random.choice(len(shares), length, p=weights / weights.sum())
    found: npt.NDArray[np.int64] = (np.cumsum(counts) - counts)[chosen] + random.integers(0, counts[chosen])
    return found


if __name__ == "__main__":
    main()
