"""The loss in chunks against the whole, and the memory that it must never take."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from model import head
from model.head import LanguageHead


@pytest.mark.parametrize("rows", [1, 7, 50])
def test_chunks_give_the_loss_and_gradients_of_the_whole(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Oracle: torch's cross-entropy on full logits. The last chunk may be short."""
    monkeypatch.setattr(head, "CHUNK_ELEMENTS", rows * 100)
    layer = LanguageHead(32, 100)
    hidden, targets = torch.randn(50, 32, requires_grad=True), torch.randint(0, 100, (50,))
    (layer(hidden, targets) * 0.3).backward()
    found = hidden.grad, layer.weight.grad
    hidden.grad = layer.weight.grad = None
    expected = cross_entropy(layer(hidden), targets, reduction="sum")
    (expected * 0.3).backward()
    torch.testing.assert_close(layer(hidden, targets), expected, rtol=1e-6, atol=1e-5)
    for ours, theirs in zip(found, (hidden.grad, layer.weight.grad), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_half_precision_sums_in_float32() -> None:
    layer, targets = LanguageHead(64, 300).to(torch.bfloat16), torch.randint(0, 300, (2000,))
    hidden = torch.randn(2000, 64).to(torch.bfloat16)
    whole = cross_entropy(layer(hidden).float(), targets, reduction="sum")
    torch.testing.assert_close(layer(hidden, targets), whole, rtol=1e-5, atol=0)


def test_a_frozen_head_passes_gradients_on_and_takes_none() -> None:
    layer = LanguageHead(32, 100).requires_grad_(False)
    hidden = torch.randn(5, 32, requires_grad=True)
    layer(hidden, torch.arange(5)).backward()
    assert hidden.grad is not None and layer.weight.grad is None
    with torch.inference_mode():
        assert not layer(hidden, torch.arange(5)).requires_grad


def test_no_targets_no_loss() -> None:
    layer = LanguageHead(32, 100)
    hidden = torch.randn(0, 32, requires_grad=True)
    loss = layer(hidden, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0 and not layer.weight.grad.any()


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation inside makes, and of those alive at once."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else [out]:
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return out


def test_full_logits_never_exist() -> None:
    """32K tokens and 151,936 words: counted on the meta device, forward and backward."""
    tokens, words = 32_768, 151_936
    with torch.device("meta"):
        layer, hidden = LanguageHead(640, words), torch.empty(tokens, 640, requires_grad=True)
        targets = torch.empty(tokens, dtype=torch.long)
    with Largest() as seen:
        layer(hidden, targets).backward()
    assert seen.elements <= max(head.CHUNK_ELEMENTS, words * 640) < tokens * words / 30
    with Largest() as whole:
        cross_entropy(layer(hidden), targets).backward()
    assert whole.elements == tokens * words
