"""Configurations: a SigLIP-style vision tower, transformers' Qwen3, and the model that joins them.

Defaults are Keye-VL-1.5-8B (SigLIP-so400m-patch14-384 and Qwen3-8B; report, section 2).
"""

from dataclasses import fields
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig, Qwen3Config


@strict
class KeyeVisionConfig(PreTrainedConfig):  # type: ignore[misc]
    """The vision tower. `image_size` only sets the side of the learned position table (27 = 384 // 14)."""

    model_type = "KeyeVL1_5_vision"
    base_config_key = "vision_config"

    hidden_size: int = 1152
    intermediate_size: int = 4304
    num_hidden_layers: int = 27
    num_attention_heads: int = 16
    num_channels: int = 3
    image_size: int = 384
    patch_size: int = 14
    spatial_merge_size: int = 2
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    initializer_range: float = 0.02

    @property
    def table_side(self) -> int:
        """Rows (and columns) of the learned position table."""
        return self.image_size // self.patch_size

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


@strict
class KeyeTextConfig(Qwen3Config):  # type: ignore[misc]
    """Qwen3's, with `rope_parameters["mrope_section"]`: the rotary pairs of time, height and width."""

    model_type = "KeyeVL1_5_text"
    base_config_key = "text_config"
    ignore_keys_at_rope_validation: ClassVar[set[str]] = {"mrope_section"}


@strict
class KeyeConfig(PreTrainedConfig):  # type: ignore[misc]
    """The whole model. The placeholders' ids are the tokenizer's; `rope_resets` is `reset_rope`'s record."""

    model_type = "KeyeVL1_5"
    sub_configs: ClassVar[dict[str, type[PreTrainedConfig]]] = {
        "vision_config": KeyeVisionConfig,
        "text_config": KeyeTextConfig,
    }
    keys_to_ignore_at_inference = ("past_key_values",)

    vision_config: Any = None
    text_config: Any = None
    image_token_id: int = 151655
    video_token_id: int = 151656
    tie_word_embeddings: bool = False
    rope_resets: list[dict[str, Any]] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.text_config is None:
            self.text_config, kwargs = published_text(kwargs)
            self.text_config.setdefault("tie_word_embeddings", self.tie_word_embeddings)
        vision, text = self.vision_config, self.text_config
        self.vision_config = KeyeVisionConfig(**(vision or {})) if not isinstance(vision, KeyeVisionConfig) else vision
        self.text_config = KeyeTextConfig(**(text or {})) if not isinstance(text, KeyeTextConfig) else text
        super().__post_init__(**kwargs)


def published_text(keys: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The language model's keys among those of a published config, where they lie at the top level, and the rest.

    `rope_theta` and `rope_scaling` are what transformers 5 calls `rope_parameters`.
    """
    rope = {key: keys[key] for key in ("rope_theta", "rope_scaling") if key in keys}
    known = {field.name for field in fields(KeyeTextConfig)} - {field.name for field in fields(PreTrainedConfig)}
    text = {key: value for key, value in keys.items() if key in known and key not in rope}
    if rope:
        scaling = rope.get("rope_scaling") or {}
        text["rope_parameters"] = {
            "rope_type": scaling.get("rope_type", scaling.get("type", "default")),
            "rope_theta": float(rope.get("rope_theta", 1_000_000.0)),
            **{key: value for key, value in scaling.items() if key not in ("type", "rope_type")},
        }
    return text, {key: value for key, value in keys.items() if key not in text and key not in rope}
