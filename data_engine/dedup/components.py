"""Connected components of duplicate pairs, by union-find with path halving."""

import numba
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def components(count: int, first: Ints, second: Ints) -> Ints:
    """For each of `count` items the smallest item it is connected to (itself, if alone)."""
    parent = np.arange(count, dtype=np.int64)
    join_all(parent, np.asarray(first, np.int64), np.asarray(second, np.int64))
    found: Ints = flatten(parent)
    return found


@numba.njit(cache=True)
def root_of(parent, item):  # type: ignore[no-untyped-def]
    """The smallest member of the item's component, shortening the way there."""
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = parent[item]
    return item


@numba.njit(cache=True)
def join(parent, first, second):  # type: ignore[no-untyped-def]
    """Makes one component of two."""
    a, b = root_of(parent, first), root_of(parent, second)
    if a != b:
        parent[max(a, b)] = min(a, b)


@numba.njit(cache=True)
def join_all(parent, first, second):  # type: ignore[no-untyped-def]
    for pair in range(len(first)):
        join(parent, first[pair], second[pair])


@numba.njit(cache=True)
def flatten(parent):  # type: ignore[no-untyped-def]
    """Every item's root."""
    for item in range(len(parent)):
        parent[item] = root_of(parent, item)
    return parent
