"""What the model is and what it costs: parameters and FLOPs, by arithmetic on the sizes in its configuration.

FLOPs are those of matrix products in one forward pass, two per multiply-add; training costs three times as much.
Causal attention is counted at half of a full square. Norms, activations and rotations are left out: under 1 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from model.configuration import KeyeConfig, KeyeTextConfig, KeyeVisionConfig

Grid = tuple[int, int]
"""Rows and columns of patches of one image or frame."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters by part; `embeddings` are word embeddings and output layer, once where they are tied."""

    vision: int
    projector: int
    blocks: int
    embeddings: int

    @property
    def total(self) -> int:
        return self.vision + self.projector + self.blocks + self.embeddings


def parameters(config: KeyeConfig) -> Parameters:
    """Parameters of the whole model."""
    vision, text = config.vision_config, config.text_config
    words = text.vocab_size * text.hidden_size
    tied = config.tie_word_embeddings
    return Parameters(
        _vision_parameters(vision), _projector_parameters(vision, text), _block_parameters(text), words * (2 - tied)
    )


def _vision_parameters(vision: KeyeVisionConfig) -> int:
    d, f = vision.hidden_size, vision.intermediate_size
    attention, mlp, norms = 4 * (d * d + d), 2 * d * f + f + d, 4 * d
    patches = vision.num_channels * vision.patch_size**2 * d + d
    return int(patches + vision.table_side**2 * d + vision.num_hidden_layers * (attention + mlp + norms) + 2 * d)


def _projector_parameters(vision: KeyeVisionConfig, text: KeyeTextConfig) -> int:
    m = vision.spatial_merge_size**2 * vision.hidden_size
    return int(2 * m + (m * m + m) + (m * text.hidden_size + text.hidden_size))


def _block_parameters(text: KeyeTextConfig) -> int:
    """All blocks and the final norm."""
    norms = 2 * text.hidden_size + 2 * text.head_dim
    return int(text.num_hidden_layers * (_matrices(text) + norms) + text.hidden_size)


def _matrices(text: KeyeTextConfig) -> int:
    """Weights of one block's matrices."""
    heads = 2 * text.num_attention_heads + 2 * text.num_key_value_heads
    return int(text.hidden_size * heads * text.head_dim + 3 * text.hidden_size * text.intermediate_size)


def vision_flops(vision: KeyeVisionConfig, grids: Sequence[Grid]) -> int:
    """FLOPs of the vision tower over images of `grids`; attention stays within each."""
    d, f = vision.hidden_size, vision.intermediate_size
    matrices = vision.num_channels * vision.patch_size**2 * d + vision.num_hidden_layers * (4 * d * d + 2 * d * f)
    sizes = [rows * columns for rows, columns in grids]
    attention = vision.num_hidden_layers * 4 * d * sum(size * size for size in sizes)
    return int(2 * matrices * sum(sizes) + attention)


def projector_flops(config: KeyeConfig, grids: Sequence[Grid]) -> int:
    """FLOPs of the projector over images of `grids`."""
    m = config.vision_config.spatial_merge_size**2 * config.vision_config.hidden_size
    tokens = sum(rows * columns for rows, columns in grids) // config.vision_config.spatial_merge_size**2
    return int(2 * tokens * (m * m + m * config.text_config.hidden_size))


def language_flops(text: KeyeTextConfig, lengths: Sequence[int], scored: int = 0) -> int:
    """FLOPs of the blocks over sequences of `lengths` tokens, and of the output layer at `scored` of them."""
    width = text.num_attention_heads * text.head_dim
    attention = text.num_hidden_layers * 2 * width * sum(length * (length + 1) for length in lengths)
    head = 2 * scored * text.hidden_size * text.vocab_size
    return int(2 * text.num_hidden_layers * _matrices(text) * sum(lengths) + attention + head)


def sample_flops(config: KeyeConfig, length: int, grids: Sequence[Grid], scored: int = 0) -> int:
    """FLOPs of one sample of `length` tokens, those of its images of `grids` among them."""
    seen = vision_flops(config.vision_config, grids) + projector_flops(config, grids)
    return seen + language_flops(config.text_config, [length], scored)
