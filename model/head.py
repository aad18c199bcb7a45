"""The output layer and its loss, whose logits never exist as a whole.

At 128K tokens and 152K words full logits would take 80 GB. Here a chunk of rows is scored, its gradient taken
at once, and its logits overwritten by the next: the work of the ordinary loss, the memory of one chunk.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

CHUNK_ELEMENTS = 2**27
"""Logits (float32) that exist at one time: 512 MiB."""


class LanguageHead(nn.Linear):
    """`nn.Linear` without bias. Given targets it returns their summed loss instead of logits.

    The loss is taken inside the module's own forward, so that whoever gathers, offloads or moves its weight
    around that call (ZeRO-3, device maps) does so here as well.
    """

    def __init__(self, hidden_size: int, vocab_size: int) -> None:
        super().__init__(hidden_size, vocab_size, bias=False)

    def forward(self, hidden: Tensor, targets: Tensor | None = None) -> Tensor:
        """`hidden` [..., D] -> logits [..., V]; with `targets` [T] and `hidden` [T, D] the loss in nats."""
        if targets is None:
            return linear(hidden, self.weight)
        weight = self.weight
        if not torch.is_grad_enabled():  # inside an autograd function it never is: say so by what is passed
            hidden, weight = hidden.detach(), weight.detach()
        loss: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
        return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of cross-entropies of `hidden` [T, D] times `weight` [V, D] against `targets` [T], in float32.

    The gradient of a row's logits is its softmax with one subtracted at the target. It is known as soon as
    the logits are, so backward only scales what forward has found.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        needs_hidden, needs_weight, _ = ctx.needs_input_grad
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        rows = max(1, CHUNK_ELEMENTS // weight.shape[0])
        for start in range(0, len(hidden), rows):
            chunk, wanted = hidden[start : start + rows], targets[start : start + rows, None]
            logits = linear(chunk, weight).float()
            scale = logits.logsumexp(dim=-1, keepdim=True)
            total += (scale - logits.gather(1, wanted)).sum()
            if grad_hidden is None and grad_weight is None:
                continue
            slope = logits.sub_(scale).exp_()
            slope.scatter_add_(1, wanted, -torch.ones_like(scale))
            slope = slope.to(weight.dtype)
            if grad_hidden is not None:
                torch.mm(slope, weight, out=grad_hidden[start : start + rows])
            if grad_weight is not None:
                grad_weight += slope.T @ chunk
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return (
            None if grad_hidden is None else grad_hidden * grad_total.to(grad_hidden.dtype),
            None if grad_weight is None else (grad_weight * grad_total).to(ctx.weight_dtype),
            None,
        )
