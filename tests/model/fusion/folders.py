"""Small model folders: plain tensors, or real tiny models with tokenizers."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from model.fusion.recipe import MergeModel, MergeRecipe
from model.weights import Weights, WeightsWriter


def write(folder: Path, tensors: dict[str, Tensor]) -> Path:
    writer = WeightsWriter(folder)
    for name, tensor in tensors.items():
        writer.add(name, tensor)
    writer.close()
    return folder


def read(folder: Path) -> dict[str, Tensor]:
    weights = Weights.open(folder)
    return {name: weights.read(name) for name in weights.names}


def some_tensors() -> dict[str, Tensor]:
    return {
        "model.layers.0.mlp.up_proj.weight": torch.randn(9, 5),
        "model.layers.10.mlp.up_proj.weight": torch.randn(9, 5),
        "model.layers.2.mlp.up_proj.weight": torch.randn(9, 5),
        "model.norm.weight": torch.randn(5),
        "scale": torch.tensor(1.5),
        "steps": torch.tensor([3, 4]),
    }


def moved(tensors: dict[str, Tensor], scale: float = 0.1) -> dict[str, Tensor]:
    """The same tensors after some training; integers stay."""
    return {n: t + scale * torch.randn_like(t) if t.is_floating_point() else t for n, t in tensors.items()}


def recipe(method: str, models: list[Path], base: Path | None = None, **more: object) -> MergeRecipe:
    """Every model with weight 1, and density 0.5 where the method wants one."""
    density = 0.5 if method in ("ties", "dare_linear", "dare_ties") else None
    return MergeRecipe.model_validate(
        {"method": method, "base": base, "models": [MergeModel(path=one, density=density) for one in models], **more}
    )


def with_tokens(tokenizer: PreTrainedTokenizerBase, tokens: list[str], folder: Path) -> dict[str, int]:
    """Saves a copy of the tokenizer that has more special tokens; its vocabulary."""
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(folder)
    copy = AutoTokenizer.from_pretrained(folder)
    copy.add_special_tokens({"additional_special_tokens": tokens})
    copy.save_pretrained(folder)
    return dict(copy.get_vocab())
