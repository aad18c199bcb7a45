"""Acceptance sampling of a released set: how many to look at, which, and what then is certain of the rest.

Exact for a finite set: with D errors among N, those in a sample of n follow the hypergeometric distribution, and the
upper bound at a confidence of 1 - a is the largest D for which so few or fewer would still be seen with probability
above a (Buonaccorsi 1987; Konijn 1973).
"""

from collections.abc import Iterable

import xxhash
from scipy import stats


def draw(ids: Iterable[str], number: int, seed: int) -> list[str]:
    """A simple random sample: those whose hashes with the seed are lowest. The same for the same set in any order.

    Raises ValueError for a sample larger than the set.
    """
    known = sorted(set(ids))
    if number > len(known):
        raise ValueError(f"a sample of {number} of {len(known)}: the set is smaller; audit all of it")
    ranked = sorted(known, key=lambda name: xxhash.xxh3_64_intdigest(f"{seed}/{name}".encode()))
    return ranked[:number]


def bound(population: int, drawn: int, errors: int, confidence: float = 0.95) -> int:
    """The most errors that the whole set holds, with this confidence, when `drawn` of it showed `errors`.

    Raises ValueError for numbers that cannot be.
    """
    if not 0 <= errors <= drawn <= population or not 0 < confidence < 1:
        raise ValueError(f"{errors} errors in {drawn} of {population} at confidence {confidence}: that cannot be")
    low, high = errors, population - drawn + errors
    while low < high:  # the probability of so few errors falls as there are more
        middle = (low + high + 1) // 2
        if stats.hypergeom.cdf(errors, population, middle, drawn) > 1 - confidence:
            low = middle
        else:
            high = middle - 1
    return low


def plan(population: int, max_share: float, confidence: float = 0.95, allowed: int = 0) -> int:
    """The smallest sample in which up to `allowed` errors still prove that at most `max_share` of the set is wrong.

    Raises ValueError where not even the whole set could prove it.
    """
    most = int(max_share * population)
    if allowed > most:
        raise ValueError(f"{allowed} errors are more than {max_share:.2%} of {population}: no sample proves less")
    low, high = allowed, population
    while low < high:
        middle = (low + high) // 2
        if bound(population, middle, min(allowed, middle), confidence) <= most:
            high = middle
        else:
            low = middle + 1
    return low
