"""Keye-VL-1.5: vision tower, projector and language model in one `PreTrainedModel`.

State-dict keys are the published checkpoint's: `visual.vision_model.*`, `mlp_AR.*`, `model.*`, `lm_head.*`.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    GenerationConfig,
    GenerationMixin,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.cache_utils import Cache
from transformers.utils import ModelOutput

from model.configuration import KeyeConfig
from model.language import attention_inputs, build_language_model
from model.projector import KeyeProjector
from model.vision import KeyeVisionModel
from model.visual_tokens import (
    CONTROL_TOKENS,
    END_OF_TEXT,
    IM_END,
    IMAGE_PAD,
    SPECIAL_TOKENS,
    VIDEO_PAD,
    load_preset,
)

IGNORED = -100
"""The label of a token that is no target."""


@dataclass
class KeyeOutput(ModelOutput):  # type: ignore[misc]
    """`loss` is the mean over `num_targets` targets, so their product is the sum.

    `logits` [B, L, V] only without labels: with labels they are formed at the targets alone and not kept,
    since at 128K tokens and 152K words the whole would take 80 GB.
    """

    loss: Tensor | None = None
    num_targets: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Cache | None = None


class KeyeForConditionalGeneration(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """Text, images and slow-fast video in, text out."""

    config_class = KeyeConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("image", "video", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ("Qwen3DecoderLayer", "KeyeVisionLayer")
    _supports_sdpa = True
    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: KeyeConfig) -> None:
        super().__init__(config)
        text = config.text_config
        self.visual = KeyeVisionModel(config.vision_config)
        self.mlp_AR = KeyeProjector(config.vision_config, text.hidden_size)
        self.model = build_language_model(text)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens  # type: ignore[no-any-return]

    def visual_features(self, pixel_values: Tensor, grid_thw: Tensor) -> Tensor:
        """Language-model embeddings [P / 4, D] of packed patches, a row of `grid_thw` per image or frame.

        Frozen parts keep no activations: autograd is off for them.
        """
        grids = [(rows, columns) for _, rows, columns in grid_thw.tolist()]
        with torch.set_grad_enabled(torch.is_grad_enabled() and _trains(self.visual)):
            features = self.visual(pixel_values, grids)
        with torch.set_grad_enabled(torch.is_grad_enabled() and (features.requires_grad or _trains(self.mlp_AR))):
            return self.mlp_AR(features, grids)  # type: ignore[no-any-return]

    def embed(self, input_ids: Tensor, pixel_values: Tensor | None, grid_thw: Tensor | None) -> Tensor:
        """Embeddings [B, L, D]; those of placeholders are the visual features, in order.

        Raises ValueError with both counts when there are not as many features as placeholders.
        """
        embeds = self.get_input_embeddings()(input_ids)
        is_visual = (input_ids == self.config.image_token_id) | (input_ids == self.config.video_token_id)
        num_features = 0 if grid_thw is None else int(grid_thw[:, 1:].prod(dim=1).sum()) // self.mlp_AR.merge**2
        if int(is_visual.sum()) != num_features:
            raise ValueError(
                f"{int(is_visual.sum())} visual placeholders in input_ids, {num_features} visual features "
                "in grid_thw: pass the pixel_values and grid_thw that the processor made with these input_ids"
            )
        if pixel_values is None or grid_thw is None or num_features == 0:
            return embeds + self._nothing_shown() if self.training else embeds  # type: ignore[no-any-return]
        features = self.visual_features(pixel_values, grid_thw).to(embeds.dtype)
        return embeds.masked_scatter(is_visual[..., None], features)  # type: ignore[no-any-return]

    def _nothing_shown(self) -> Tensor:
        """Zero, but a zero that vision tower and projector took part in.

        Where many processes train together they gather weights and reduce gradients in step: one whose rows show
        nothing must go the same way as the others, or they wait for it.
        """
        parameter = next(self.visual.parameters())
        side, merge = self.config.vision_config.patch_size, self.mlp_AR.merge
        blank = torch.zeros(merge**2, 3, side, side, dtype=parameter.dtype, device=parameter.device)
        return 0.0 * self.visual_features(blank, torch.tensor([[1, merge, merge]])).sum()

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        segment_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        grid_thw: Tensor | None = None,
        labels: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **_: Any,
    ) -> KeyeOutput:
        """One pass over `input_ids` [B, L] at `position_ids` [3, B, L].

        `segment_ids` [B, L] (0 = padding) makes rows of several samples that do not see each other.
        `labels` [B, L] are aligned with `input_ids` (-100 = no target); the shift happens here.
        """
        grid_thw = None if pixel_values is None else grid_thw
        embeds = self.embed(input_ids, pixel_values, grid_thw)
        attention = attention_inputs(self.model.config, embeds, attention_mask, segment_ids, past_key_values)
        output = self.model(
            inputs_embeds=embeds,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache if labels is None and segment_ids is None else False,
            **attention,
        )
        hidden = output.last_hidden_state
        if labels is None:
            logits = self.lm_head(hidden[:, -logits_to_keep:])
            return KeyeOutput(logits=logits, past_key_values=output.past_key_values)
        loss, num_targets = self.loss(hidden, shift_labels(labels, segment_ids))
        return KeyeOutput(loss=loss, num_targets=num_targets)

    def loss(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of `hidden` [B, L, D] against next tokens `targets` [B, L], and their number."""
        is_target = targets != IGNORED
        num_targets = is_target.sum()
        logits = self.lm_head(hidden[is_target]).float()
        total = cross_entropy(logits, targets[is_target], reduction="sum")
        return total / num_targets.clamp(min=1), num_targets


def shift_labels(labels: Tensor, segment_ids: Tensor | None) -> Tensor:
    """The target [B, L] that each position predicts: the next label, where it is of the same segment."""
    targets = pad(labels[:, 1:], (0, 1), value=IGNORED)
    if segment_ids is None:
        return targets
    following = pad(segment_ids[:, 1:], (0, 1), value=0)
    return targets.masked_fill(following != segment_ids, IGNORED)


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def config_of(preset: str, **overrides: Any) -> KeyeConfig:
    """A preset's configuration; `vocab_size` in `overrides` stands in for a preset without its own."""
    data = deepcopy(load_preset(preset))  # the presets are read once; a configuration may be changed
    vocab_size = overrides.pop("vocab_size", 8192)
    text = {"vocab_size": vocab_size, "max_position_embeddings": data["context"], **data["text"]}
    tie = text.get("tie_word_embeddings", False)
    return KeyeConfig(vision_config=data["vision"], text_config=text, tie_word_embeddings=tie, **overrides)


def build(preset: str, tokenizer: PreTrainedTokenizerBase) -> KeyeForConditionalGeneration:
    """A model of `preset` for `tokenizer`, freshly initialised (float32, on the default device).

    The vocabulary is the tokenizer's unless the preset sets it. Its `generate` stops at the end of a turn
    or text and never writes a control token besides.
    Raises ValueError when the tokenizer lacks a special token or has more tokens than the preset.
    """
    vocab = tokenizer.get_vocab()
    missing = [token for token in SPECIAL_TOKENS if token not in vocab]
    if missing:
        raise ValueError(f"tokenizer lacks {missing[0]}: load it with model.tokenizer.load_tokenizer")
    ids = {"image_token_id": vocab[IMAGE_PAD], "video_token_id": vocab[VIDEO_PAD]}
    config = config_of(preset, vocab_size=len(tokenizer), **ids)
    if len(tokenizer) > config.text_config.vocab_size:
        raise ValueError(
            f"tokenizer has {len(tokenizer)} tokens, preset {preset} room for {config.text_config.vocab_size}"
        )
    model = KeyeForConditionalGeneration(config)
    ends = [vocab[IM_END], vocab[END_OF_TEXT]]
    control = [vocab[token] for token in CONTROL_TOKENS]
    model.generation_config = GenerationConfig(
        eos_token_id=ends,
        pad_token_id=vocab[END_OF_TEXT],
        suppress_tokens=[token for token in control if token not in ends],
    )
    return model


AutoConfig.register(KeyeConfig.model_type, KeyeConfig)
AutoModelForImageTextToText.register(KeyeConfig, KeyeForConditionalGeneration)
