"""Connected components of duplicate pairs, by union-find with path halving."""

from collections.abc import Iterable, Sequence


def components(count: int, pairs: Iterable[Sequence[int]]) -> list[int]:
    """For each of `count` items the smallest item it is connected to (itself, if alone)."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for first, second in pairs:
        low, high = sorted((root(int(first)), root(int(second))))
        parent[high] = low
    return [root(item) for item in range(count)]
