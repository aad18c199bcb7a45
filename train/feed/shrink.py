"""A sample that no row can hold shows its pictures smaller, and smaller again, before it is refused.

Nothing is cut: the words stay, and so do all frames; only the visual budget of this one sample shrinks. How fast and
how often the report does not say; a tenth at a time, from the largest that could fit, is our choice.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import orjson

from data_engine.stream import ShardReader
from data_engine.tar_blocks import parse
from model.visual_tokens import VisualBudget, VisualTokenError, image_size, num_tokens, plan_video
from train.feed.packing import Limits

RATIO, ATTEMPTS = 0.9, 12


class Shown(NamedTuple):
    """The caps that one sample is shown under, in tokens: of an image, and of all frames of a video."""

    image_tokens: int
    video_tokens: int

    def budget(self, budget: VisualBudget) -> VisualBudget:
        """`budget` under these caps."""
        return replace(
            budget,
            image_max_tokens=min(budget.image_max_tokens, self.image_tokens),
            image_min_tokens=min(budget.image_min_tokens, self.image_tokens),
            video_total_tokens=min(budget.video_total_tokens, self.video_tokens),
        )


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What a sample becomes: its caps and its sizes under them."""

    shown: Shown
    tokens: int
    visual_tokens: int
    pictures: int
    squared_patches: int


class Shrinker:
    """Shrinks samples of one stream for rows of `limits`; every rank comes to the same, from the sample alone."""

    def __init__(self, reader: ShardReader, budget: VisualBudget, limits: Limits) -> None:
        self.reader, self.budget, self.limits = reader, budget, limits
        self.shrink = functools.lru_cache(4096)(self._shrink)

    def _shrink(self, number: int) -> Shrunk | None:
        """The largest try that fits a row; None where none does, as the words alone may be too many."""
        index = self.reader.index
        words = int(index.tokens[number]) - int(index.visual_tokens[number])
        parts = orjson.loads(parse(self.reader.block(number))[0][1])["shown"]
        for shown in self._tries(words, parts):
            try:
                counts = counted(parts, shown.budget(self.budget))
            except VisualTokenError:  # not even frames of one token each
                return None
            tokens, patches = words + sum(counts), self.budget.merge**2 * np.array(counts, np.int64)
            if self.limits.fit(np.array([[tokens, len(counts), patches.sum()]]))[0]:
                return Shrunk(shown, tokens, sum(counts), len(counts), int((patches**2).sum()))
        return None

    def _tries(self, words: int, parts: Sequence[Mapping[str, Any]]) -> Iterator[Shown]:
        each = [sum(counted([part], self.budget)) for part in parts]
        images = [count for count, part in zip(each, parts, strict=True) if part["kind"] == "image"]
        videos = [count for count, part in zip(each, parts, strict=True) if part["kind"] == "video"]
        room = self.limits.tokens - words
        if self.limits.patches is not None:
            room = min(room, self.limits.patches // self.budget.merge**2)
        if room < len(each) or not each:
            return
        share = min(1.0, room / sum(each))
        for _ in range(ATTEMPTS):
            caps = [max(1, int(share * max(counts, default=1))) for counts in (images, videos)]
            yield Shown(*caps)
            share *= RATIO


def counted(parts: Sequence[Mapping[str, Any]], budget: VisualBudget) -> list[int]:
    """Tokens of each picture of a sample's `shown`, under a budget. Raises VisualTokenError."""
    counts: list[int] = []
    for part in parts:
        if part["kind"] == "image":
            counts.append(num_tokens(image_size(part["height"], part["width"], budget), budget.factor))
        else:
            plan = plan_video(part["is_slow"], part["height"], part["width"], budget)
            counts += [num_tokens(size, budget.factor) for size in plan.sizes]
    return counts
