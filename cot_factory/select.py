"""Which right paths of a question are kept: the most confident, and of different thoughts."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

_WORD = re.compile(r"\w+")


def select(chains: Sequence[dict[str, Any]], keep: int, max_similarity: float) -> list[dict[str, Any]]:
    """Of one question's chains (`tier`, `probability`, `text`, `path`) `keep` at most: A before B, the more probable
    first, none whose word pairs are as many the same as one taken before (`similarity`).
    """
    right = [row for row in chains if row["tier"] != "C"]
    ranked = sorted(right, key=lambda row: (row["tier"], -row["probability"], row["path"]))
    return list(_distinct(ranked, keep, max_similarity))


def _distinct(ranked: Sequence[dict[str, Any]], keep: int, max_similarity: float) -> Iterator[dict[str, Any]]:
    taken: list[frozenset[tuple[str, str]]] = []
    for row in ranked:
        pairs = word_pairs(row["text"])
        if len(taken) < keep and all(similarity(pairs, other) < max_similarity for other in taken):
            taken.append(pairs)
            yield row


def word_pairs(text: str) -> frozenset[tuple[str, str]]:
    words = _WORD.findall(text.lower())
    return frozenset(zip(["", *words], [*words, ""], strict=True))


def similarity(one: frozenset[tuple[str, str]], two: frozenset[tuple[str, str]]) -> float:
    """The share of word pairs in common (Jaccard)."""
    return len(one & two) / len(one | two)
