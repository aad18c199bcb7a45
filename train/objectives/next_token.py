"""Next-token prediction, normalised by the targets of the whole batch over all ranks.

A mean of per-rank means would weigh a token by how many targets its rank happened to get; here every
target of the global batch weighs the same, however rows are spread.
"""

import torch
from torch import Tensor, nn

Tensors = dict[str, Tensor]


def count_targets(tensors: Tensors) -> int:
    """Targets of this rank's rows (labels that are not -100)."""
    return int((tensors["labels"] != -100).sum())


def sum_over_ranks(value: float) -> float:
    """The sum of a number over all ranks."""
    if torch.distributed.get_world_size() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64)
    torch.distributed.all_reduce(total)
    return float(total)


def loss_sum(forward: nn.Module, tensors: Tensors) -> Tensor:
    """Summed cross-entropy over this rank's targets, in nats."""
    output = forward(**tensors)
    return output.loss * output.num_targets  # type: ignore[no-any-return]
