"""The loss on held-out samples, with their own media and with those of others: does the model look?

Every sample is scored by itself, twice: as it is, and re-encoded with the media of another sample that
shows the same kinds of media. If the second is no worse, the pictures play no part.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from data_engine.clips import Clip
from data_engine.stream import StreamItem
from model.modeling import KeyeForConditionalGeneration
from model.processing import Encoded, KeyeProcessor
from train.feed.conversation import encode


@dataclass(frozen=True, slots=True)
class Score:
    """One sample's summed loss over its targets, in nats; `shuffled` is None where nothing could be swapped."""

    task: str
    targets: int
    loss: float
    shuffled: float | None


def derangement(items: Sequence[StreamItem]) -> dict[int, int]:
    """For each item with media, another whose media differ: a permutation within each kind of media.

    Items are sorted by their media and turned by as many places as the commonest media occur, so nothing meets
    its own unless one picture makes up more than half of a group; then those that would are left out.
    """
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        if item.media:
            groups[tuple("video" if isinstance(m, Clip) else "image" for m in item.media)].append(index)
    partner = {}
    for members in groups.values():
        keys = {index: _media_key(items[index]) for index in members}
        members.sort(key=lambda index: (keys[index], index))
        turn = max(list(keys.values()).count(key) for key in set(keys.values()))
        for place, index in enumerate(members):
            other = members[(place + turn) % len(members)]
            if keys[other] != keys[index]:
                partner[index] = other
    return partner


def _media_key(item: StreamItem) -> str:
    return "+".join(f"{media.key}@{media.start}-{media.end}" for media in item.sample.media)


def score(
    model: KeyeForConditionalGeneration,
    processor: KeyeProcessor,
    items: Sequence[StreamItem],
    rank: int = 0,
    world_size: int = 1,
) -> list[Score]:
    """Scores of all items, the work spread over `world_size` ranks; every rank gets the whole list."""
    partner = derangement(items)
    was_training = model.training
    model.eval()
    mine = {}
    for index in range(rank, len(items), world_size):
        mine[index] = _score_one(model, processor, items, index, partner.get(index, index))
    model.train(was_training)
    if world_size > 1:
        parts: list[Any] = [None] * world_size
        torch.distributed.all_gather_object(parts, mine)
        mine = {index: one for part in parts for index, one in part.items()}
    return [mine[index] for index in range(len(items))]


def _score_one(
    model: KeyeForConditionalGeneration, processor: KeyeProcessor, items: Sequence[StreamItem], index: int, other: int
) -> Score:
    messages = items[index].sample.messages
    right = encode(processor, messages, items[index].media)
    wrong = right if other == index else encode(processor, messages, items[other].media)
    losses = [_loss(model, processor, one) for one in (right, wrong)]
    return Score(items[index].sample.task, right.num_targets, losses[0], None if other == index else losses[1])


@torch.inference_mode()
def _loss(model: KeyeForConditionalGeneration, processor: KeyeProcessor, encoded: Encoded) -> float:
    tensors = {name: tensor.to(model.device) for name, tensor in processor.batch([encoded]).items()}
    output = model(**tensors)
    return float(output.loss) * int(output.num_targets)


def summarise(scores: Sequence[Score]) -> dict[str, Any]:
    """Losses per target token, over all samples and by task.

    `heldout_loss` and `heldout_loss_shuffled_images` are over the same samples: those whose media could be
    swapped, or all (and no shuffled loss) where none has media. `images_gap_stderr` is the standard error of
    their difference, samples taken as independent.
    """
    swapped = [one for one in scores if one.shuffled is not None]
    tasks = sorted({one.task for one in scores})
    by_task = {task: _losses([one for one in scores if one.task == task]) for task in tasks}
    whole = _losses(swapped or scores)
    return {
        "heldout_loss": whole["loss"],
        "heldout_loss_shuffled_images": whole["loss_shuffled_images"],
        "images_gap_stderr": _gap_stderr(swapped),
        "heldout_loss_all": _losses(scores)["loss"],
        "heldout_tasks": by_task,
    }


def _losses(scores: Sequence[Score]) -> dict[str, Any]:
    targets = sum(one.targets for one in scores)
    swapped = [one for one in scores if one.shuffled is not None]
    shuffled = sum(one.shuffled for one in swapped if one.shuffled is not None)
    return {
        "samples": len(scores),
        "targets": targets,
        "loss": sum(one.loss for one in scores) / targets if targets else None,
        "loss_shuffled_images": shuffled / sum(one.targets for one in swapped) if swapped else None,
    }


def _gap_stderr(scores: Sequence[Score]) -> float | None:
    """Standard error of the ratio (sum of loss differences) / (sum of targets), by linearisation."""
    if len(scores) < 2:
        return None
    targets = sum(one.targets for one in scores)
    gaps = [(one.shuffled or 0.0) - one.loss for one in scores]
    gap = sum(gaps) / targets
    residuals = [g - gap * one.targets for g, one in zip(gaps, scores, strict=True)]
    n = len(scores)
    return math.sqrt(sum(r * r for r in residuals) * n / (n - 1)) / targets
